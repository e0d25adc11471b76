// mse: the mean squared error and its gradient.
//
//   forward    loss = Σ (p − t)² / n
//   backward   dp = (p − t) · (gradient · 2/n)
//
// Arrays     p, targets t and dp (A, B), n = A·B elements; loss and its gradient one number.
// Threads    forward: one block, whose threads take every 256th element each and add up in a fixed tree: n is small
//            (37 answers an image). backward: one an element.
// NaN        passes. The mean of nothing is NaN.
// Versions   one each.

#include "include/reduce.cuh"

constexpr unsigned THREADS = 256;

extern "C" __global__ void __launch_bounds__(THREADS)
    mse_forward(const float* __restrict__ p, const float* __restrict__ targets, float* __restrict__ loss, unsigned n) {
  __shared__ float scratch[THREADS / 32];
  const float mine = sum_in_runs(threadIdx.x, n, THREADS, [&](float sum, unsigned i) {
    const float difference = p[i] - targets[i];
    return fmaf(difference, difference, sum);
  });
  const float sum = block_sum<THREADS>(mine, scratch);
  if (threadIdx.x == 0) loss[0] = sum / static_cast<float>(n);
}

extern "C" __global__ void mse_backward(const float* __restrict__ gradient, const float* __restrict__ p,
                                        const float* __restrict__ targets, float* __restrict__ dp, unsigned n,
                                        float two_over_n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) dp[i] = (p[i] - targets[i]) * (gradient[0] * two_over_n);
}
