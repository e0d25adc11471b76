// dense_backward_bias: the gradient of a dense layer's bias.
//
//   dbias[o] = Σ_b dz[o, b],   dz = the gradient before the activation, rebuilt while it is loaded
//
// Arrays     gradient, saved: see GradientOfZ in include/activation.cuh; dbias (O,).
// Threads    naive: one a sum. warp: 32 a sum, in blocks of whole warps.
// Versions   naive   the threads of a warp read numbers that lie B apart
//            warp    a warp reads a row, side by side, and adds up in a fixed tree

#include "../include/activation.cuh"
#include "../include/reduce.cuh"

extern "C" __global__ void dense_backward_bias_naive(const float* __restrict__ gradient, const void* __restrict__ saved,
                                                     float* __restrict__ dbias, unsigned O, unsigned B,
                                                     unsigned activation, float scale) {
  const unsigned o = blockIdx.x * blockDim.x + threadIdx.x;
  if (o >= O) return;
  const GradientOfZ dz = {gradient, saved, activation, B, scale};
  dbias[o] = sum_in_runs(0, B, 1, [&](float sum, unsigned b) { return sum + dz.at(o, b); });
}

extern "C" __global__ void dense_backward_bias_warp(const float* __restrict__ gradient, const void* __restrict__ saved,
                                                    float* __restrict__ dbias, unsigned O, unsigned B,
                                                    unsigned activation, float scale) {
  const unsigned o = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (o >= O) return;  // the whole warp
  const GradientOfZ dz = {gradient, saved, activation, B, scale};
  const float mine = sum_in_runs(lane, B, 32, [&](float sum, unsigned b) { return sum + dz.at(o, b); });
  const float sum = warp_sum(mine);
  if (lane == 0) dbias[o] = sum;
}
