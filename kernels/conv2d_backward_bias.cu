// conv2d_backward_bias: the gradient of the untied biases.
//
//   dbias[k, p, q] = Σ_n dz[k, p, q, n]
//
// dz is the gradient before ReLU and pool, rebuilt while loading, see conv2d_gradient.cuh.
//
// Arrays     gradient (K, P, Q, N), or by POOL (K, ⌈P/2⌉, ⌈Q/2⌉, N), with y or code of its shape; dbias (K, P, Q).
// Threads    naive: one a bias. warp: a warp a bias, four to a block.
// Versions   naive   neighbouring threads read N values apart
//            warp    32 neighbouring images at once; the lanes' sums are added by shuffles, in a fixed order

#include "include/conv2d_gradient.cuh"
#include "include/reduce.cuh"

constexpr unsigned WARPS = 4;

extern "C" __global__ void conv2d_backward_bias_naive(const float* __restrict__ gradient, const void* __restrict__ kept,
                                                      float* __restrict__ dbias, unsigned N, unsigned K, unsigned P,
                                                      unsigned Q, unsigned form) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= K * P * Q) return;
  const unsigned q = index % Q, p = index / Q % P, k = index / Q / P;
  const GradientOfSum dz = {gradient, kept, form, P, Q, N};
  dbias[index] = sum_in_runs(0, N, 1, [&](float sum, unsigned n) { return sum + dz.at(k, p, q, n); });
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    conv2d_backward_bias_warp(const float* __restrict__ gradient, const void* __restrict__ kept,
                              float* __restrict__ dbias, unsigned N, unsigned K, unsigned P, unsigned Q,
                              unsigned form) {
  const unsigned index = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (index >= K * P * Q) return;  // a whole warp
  const unsigned q = index % Q, p = index / Q % P, k = index / Q / P;
  const GradientOfSum dz = {gradient, kept, form, P, Q, N};
  const unsigned begin = dz.offset(k, p, q);
  const float sum =
      warp_sum(sum_in_runs(lane, N, 32, [&](float run, unsigned n) { return run + dz.value(begin + n, p, q); }));
  if (lane == 0) dbias[index] = sum;
}
