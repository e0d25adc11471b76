// conv2d_backward_bias: the gradient of the untied biases.
//
//   dbias[k, p, q] = Σ_n dz[k, p, q, n]
//
// dz is the gradient before ReLU and pool, rebuilt while loading, see gradient.cuh.
//
// Arrays     gradient (K, P, Q, N), or by POOL (K, ⌈P/2⌉, ⌈Q/2⌉, N), with y or code of its shape; dbias (K, P, Q).
// Threads    naive: one a bias. warp: a warp a bias, four to a block. vectorised: a warp a bias, or by POOL a window, whose
//            four biases come from the same loads.
// Versions   naive        neighbouring threads read N values apart
//            warp         32 neighbouring images at once; the lanes' sums are added by shuffles, in a fixed order
//            vectorised   16-byte loads, a pooled gradient read once; N a multiple of 4, at most 2^19

#include "../include/reduce.cuh"
#include "gradient.cuh"

constexpr unsigned WARPS = 4;

extern "C" __global__ void conv2d_backward_bias_naive(const float* __restrict__ gradient,
                                                      const void* __restrict__ saved, float* __restrict__ dbias,
                                                      unsigned N, unsigned K, unsigned P, unsigned Q,
                                                      unsigned epilogue) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= K * P * Q) return;
  const unsigned q = index % Q, p = index / Q % P, k = index / Q / P;
  const GradientOfSum dz = {gradient, saved, epilogue, P, Q, N};
  dbias[index] = sum_in_runs(0, N, 1, [&](float sum, unsigned n) { return sum + dz.at(k, p, q, n); });
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    conv2d_backward_bias_warp(const float* __restrict__ gradient, const void* __restrict__ saved,
                              float* __restrict__ dbias, unsigned N, unsigned K, unsigned P, unsigned Q,
                              unsigned epilogue) {
  const unsigned index = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (index >= K * P * Q) return;  // a whole warp
  const unsigned q = index % Q, p = index / Q % P, k = index / Q / P;
  const GradientOfSum dz = {gradient, saved, epilogue, P, Q, N};
  const unsigned begin = dz.offset(k, p, q);
  const float sum =
      warp_sum(sum_in_runs(lane, N, 32, [&](float run, unsigned n) { return run + dz.value(begin + n, p, q); }));
  if (lane == 0) dbias[index] = sum;
}

__device__ __forceinline__ void add_where(float4& sum, float4 value, uchar4 code, unsigned bit) {
  sum.x += code.x & bit ? value.x : 0.0f;
  sum.y += code.y & bit ? value.y : 0.0f;
  sum.z += code.z & bit ? value.z : 0.0f;
  sum.w += code.w & bit ? value.w : 0.0f;
}

__device__ __forceinline__ float sum_of_lanes(float4 sum) { return warp_sum((sum.x + sum.y) + (sum.z + sum.w)); }

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    conv2d_backward_bias_vectorised(const float* __restrict__ gradient, const void* __restrict__ saved,
                                    float* __restrict__ dbias, unsigned N, unsigned K, unsigned P, unsigned Q,
                                    unsigned epilogue) {
  const unsigned rows = epilogue == POOL ? (P + 1) / 2 : P, columns = epilogue == POOL ? (Q + 1) / 2 : Q;
  const unsigned index = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (index >= K * rows * columns) return;  // a whole warp
  const unsigned begin = index * N;
  if (epilogue != POOL) {
    const GradientOfSum dz = {gradient, saved, epilogue, P, Q, N};
    float4 sum = {};
#pragma unroll 2
    for (unsigned n = 4 * lane; n < N; n += 128) {
      const float4 value = dz.value4(begin + n, 0, 0);
      sum = make_float4(sum.x + value.x, sum.y + value.y, sum.z + value.z, sum.w + value.w);
    }
    const float whole = sum_of_lanes(sum);
    if (lane == 0) dbias[index] = whole;
    return;
  }
  float4 sum[4] = {};  // by corner of the window
#pragma unroll 2
  for (unsigned n = 4 * lane; n < N; n += 128) {
    const float4 dy = load4(gradient + begin + n);
    const uchar4 code = *reinterpret_cast<const uchar4*>(static_cast<const unsigned char*>(saved) + begin + n);
#pragma unroll
    for (unsigned corner = 0; corner < 4; ++corner) add_where(sum[corner], dy, code, 1u << corner);
  }
  const unsigned k = index / columns / rows, p = index / columns % rows * 2, q = index % columns * 2;
#pragma unroll
  for (unsigned corner = 0; corner < 4; ++corner) {
    const float whole = sum_of_lanes(sum[corner]);
    const unsigned row = p + corner / 2, column = q + corner % 2;
    if (lane == 0 && row < P && column < Q) dbias[(k * P + row) * Q + column] = whole;
  }
}
