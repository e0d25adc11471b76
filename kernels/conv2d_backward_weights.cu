// conv2d_backward_weights: the gradient of a convolution's weights.
//
//   dweight[c, r, s, k] = Σ_{p,q,n} x[c, p + r, q + s, n] · dz[k, p, q, n]
//
// dz is the gradient before ReLU and pool, rebuilt while loading, see conv2d_gradient.cuh. The sum runs over steps of one
// position and 32 images; it is cut into parts of `steps` of them, so that there are blocks enough and no chain of
// additions is long. A product kernel writes the sums of the parts, another one adds them in order.
//
// Arrays     x (C, H, W, N); gradient (K, P, Q, N), or by POOL (K, ⌈P/2⌉, ⌈Q/2⌉, N), with y or code of its shape;
//            partial (parts, C, R, S, K); dweight (C, R, S, K).
// Threads    naive: one an element of partial, parts along y.
//            tiled: a block of 128 has 64 rows (c, r, s) × 32 filters of one part, a thread 4 × 4 of them; along the grid
//            filters innermost, then rows, then parts.
//            sum: one an element of dweight.
// Versions   naive   every thread reads all of its inputs and gradients from memory
//            tiled   32 images of 64 inputs and 32 gradients in shared memory; a thread reads them by fours of images

#include "include/conv2d_gradient.cuh"
#include "include/float4.cuh"
#include "include/reduce.cuh"

constexpr unsigned ROWS = 64, FILTERS = 32, IMAGES = 32;  // of a tile
constexpr unsigned THREADS = ROWS / 4 * (FILTERS / 4);
constexpr unsigned STRIDE = IMAGES + 4;  // eight rows' vectors of four fall into 32 different banks

// Images n0 to end of position (p, q): what a step of the sum covers.
struct Step {
  unsigned p, q, n0;
};

__device__ __forceinline__ Step step_of(unsigned step, unsigned Q, unsigned N) {
  const unsigned chunks = (N + IMAGES - 1) / IMAGES, position = step / chunks;
  return {position / Q, position % Q, step % chunks * IMAGES};
}

extern "C" __global__ void conv2d_backward_weights_naive(const float* __restrict__ x,
                                                         const float* __restrict__ gradient,
                                                         const void* __restrict__ kept, float* __restrict__ partial,
                                                         unsigned C, unsigned H, unsigned W, unsigned N, unsigned R,
                                                         unsigned S, unsigned K, unsigned form, unsigned steps) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= C * R * S * K) return;
  const unsigned k = index % K, s = index / K % S, r = index / K / S % R, c = index / K / S / R;
  const unsigned P = H - R + 1, Q = W - S + 1, all = P * Q * ((N + IMAGES - 1) / IMAGES);
  const GradientOfSum dz = {gradient, kept, form, P, Q, N};
  float sum = 0;
  for (unsigned i = blockIdx.y * steps; i < (blockIdx.y + 1) * steps && i < all; ++i) {
    const Step step = step_of(i, Q, N);
    for (unsigned n = step.n0; n < step.n0 + IMAGES && n < N; ++n)
      sum = fmaf(x[((c * H + step.p + r) * W + step.q + s) * N + n], dz.at(k, step.p, step.q, n), sum);
  }
  partial[blockIdx.y * C * R * S * K + index] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    conv2d_backward_weights_tiled(const float* __restrict__ x, const float* __restrict__ gradient,
                                  const void* __restrict__ kept, float* __restrict__ partial, unsigned C, unsigned H,
                                  unsigned W, unsigned N, unsigned R, unsigned S, unsigned K, unsigned form,
                                  unsigned steps) {
  __shared__ __align__(16) float inputs[ROWS][STRIDE];
  __shared__ __align__(16) float gradients[FILTERS][STRIDE];
  const unsigned P = H - R + 1, Q = W - S + 1, all = P * Q * ((N + IMAGES - 1) / IMAGES), total_rows = C * R * S;
  const unsigned filter_blocks = (K + FILTERS - 1) / FILTERS, row_blocks = (total_rows + ROWS - 1) / ROWS;
  const unsigned k0 = blockIdx.x % filter_blocks * FILTERS, row0 = blockIdx.x / filter_blocks % row_blocks * ROWS;
  const unsigned part = blockIdx.x / filter_blocks / row_blocks;
  const unsigned lane = threadIdx.x % IMAGES, first = threadIdx.x / IMAGES;  // for loading: image and row
  const unsigned column = threadIdx.x % (FILTERS / 4), line = threadIdx.x / (FILTERS / 4);
  const GradientOfSum dz = {gradient, kept, form, P, Q, N};

  float sums[4][4] = {};  // rows line + 16·i, filters column + 8·j
#pragma unroll 1
  for (unsigned i = part * steps; i < (part + 1) * steps && i < all; ++i) {
    const Step step = step_of(i, Q, N);
    const unsigned n = step.n0 + lane;
    if (i > part * steps) __syncthreads();  // before this step overwrites the last one
#pragma unroll 4
    for (unsigned row = first; row < ROWS; row += THREADS / IMAGES) {
      const unsigned tap = row0 + row, c = tap / S / R, r = tap / S % R, s = tap % S;
      inputs[row][lane] = tap < total_rows && n < N ? x[((c * H + step.p + r) * W + step.q + s) * N + n] : 0.0f;
    }
#pragma unroll 4
    for (unsigned filter = first; filter < FILTERS; filter += THREADS / IMAGES)
      gradients[filter][lane] = k0 + filter < K && n < N ? dz.at(k0 + filter, step.p, step.q, n) : 0.0f;
    __syncthreads();
#pragma unroll 2
    for (unsigned image = 0; image < IMAGES; image += 4) {
      float4 a[4], b[4];
#pragma unroll
      for (unsigned k = 0; k < 4; ++k) {
        a[k] = load4(&inputs[line + ROWS / 4 * k][image]);
        b[k] = load4(&gradients[column + FILTERS / 4 * k][image]);
      }
#pragma unroll
      for (unsigned u = 0; u < 4; ++u) {
#pragma unroll
        for (unsigned v = 0; v < 4; ++v) {
          sums[u][v] = fmaf(a[u].x, b[v].x, sums[u][v]);
          sums[u][v] = fmaf(a[u].y, b[v].y, sums[u][v]);
          sums[u][v] = fmaf(a[u].z, b[v].z, sums[u][v]);
          sums[u][v] = fmaf(a[u].w, b[v].w, sums[u][v]);
        }
      }
    }
  }
#pragma unroll
  for (unsigned u = 0; u < 4; ++u) {
#pragma unroll
    for (unsigned v = 0; v < 4; ++v) {
      const unsigned row = row0 + line + ROWS / 4 * u, k = k0 + column + FILTERS / 4 * v;
      if (row < total_rows && k < K) partial[(part * total_rows + row) * K + k] = sums[u][v];
    }
  }
}

extern "C" __global__ void conv2d_backward_weights_sum(const float* __restrict__ partial, float* __restrict__ dweight,
                                                       unsigned parts, unsigned size) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= size) return;
  dweight[index] =
      sum_in_runs(0, parts, 1, [&](float sum, unsigned part) { return sum + partial[part * size + index]; });
}
