// conv2d_backward_weights: the gradient of a convolution's weights.
//
//   dweight[c, r, s, k] = Σ_{p,q,n} x[c, p + r, q + s, n] · dz[k, p, q, n]
//
// dz is the gradient before ReLU and pool, rebuilt while loading, see gradient.cuh. The sum runs over steps of one
// position and 32 images; it is cut into parts of `steps` of them, so that there are blocks enough and no chain of
// additions is long. A product kernel writes the sums of the parts, another one adds them in order.
//
// Arrays     x (C, H, W, N); gradient (K, P, Q, N), or by POOL (K, ⌈P/2⌉, ⌈Q/2⌉, N), with y or code of its shape;
//            partial (parts, C, R, S, K); dweight (C, R, S, K).
// Threads    naive: one an element of partial, k innermost, parts along y.
//            tiled, vectorised: a block of 128 has 128 rows (c, r, s) × 32 filters of one part, a thread 8 × 4 of them;
//            along the grid filters innermost, then rows, then parts.
//            sum: one an element of dweight.
// Versions   naive        every thread reads all of its inputs and gradients from memory
//            tiled        32 images of 128 inputs and 32 gradients in shared memory, copied while those before are
//                         multiplied; a thread reads them by fours of images
//            vectorised   copies of four images: N a multiple of 4

#include "../include/async_copy.cuh"
#include "../include/float4.cuh"
#include "../include/reduce.cuh"
#include "gradient.cuh"

constexpr unsigned ROWS = 128, FILTERS = 32, IMAGES = 32;  // of a tile
constexpr unsigned ROWS_EACH = 8, FILTERS_EACH = 4;        // of a thread
constexpr unsigned THREADS = ROWS / ROWS_EACH * (FILTERS / FILTERS_EACH);
constexpr unsigned STRIDE = IMAGES + 4;  // eight rows' vectors of four fall into 32 different banks

// Images from n0 on of position (p, q): what a step of the sum covers.
struct Step {
  unsigned p, q, n0;
};

// Neighbouring positions follow each other: they share inputs, which the cache still has.
__device__ __forceinline__ Step step_of(unsigned step, unsigned P, unsigned Q) {
  return {step / Q % P, step % Q, step / Q / P * IMAGES};
}

extern "C" __global__ void conv2d_backward_weights_naive(const float* __restrict__ x,
                                                         const float* __restrict__ gradient,
                                                         const void* __restrict__ saved, float* __restrict__ partial,
                                                         unsigned C, unsigned H, unsigned W, unsigned N, unsigned R,
                                                         unsigned S, unsigned K, unsigned epilogue, unsigned steps) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= C * R * S * K) return;
  const unsigned k = index % K, s = index / K % S, r = index / K / S % R, c = index / K / S / R;
  const unsigned P = H - R + 1, Q = W - S + 1, all = P * Q * ((N + IMAGES - 1) / IMAGES);
  const GradientOfSum dz = {gradient, saved, epilogue, P, Q, N};
  float sum = 0;
  for (unsigned i = blockIdx.y * steps; i < (blockIdx.y + 1) * steps && i < all; ++i) {
    const Step step = step_of(i, P, Q);
    for (unsigned n = step.n0; n < step.n0 + IMAGES && n < N; ++n)
      sum = fmaf(x[((c * H + step.p + r) * W + step.q + s) * N + n], dz.at(k, step.p, step.q, n), sum);
  }
  partial[blockIdx.y * C * R * S * K + index] = sum;
}

template <bool VECTORISED>
__device__ __forceinline__ void multiply_tiles(const float* __restrict__ x, const GradientOfSum& dz,
                                               float* __restrict__ partial, unsigned C, unsigned H, unsigned W,
                                               unsigned R, unsigned S, unsigned K, unsigned steps) {
  constexpr unsigned WIDTH = VECTORISED ? 4 : 1, LINE = IMAGES / WIDTH, LINES = THREADS / LINE;
  __shared__ __align__(16) float inputs[2][ROWS][STRIDE];
  __shared__ __align__(16) float gradients[2][FILTERS][STRIDE];
  __shared__ unsigned begin[ROWS];  // of the images of a row at position (0, 0)
  const unsigned N = dz.N, positions = dz.P * dz.Q, all = positions * ((N + IMAGES - 1) / IMAGES), taps = C * R * S;
  const unsigned filter_blocks = (K + FILTERS - 1) / FILTERS, row_blocks = (taps + ROWS - 1) / ROWS;
  const unsigned k0 = blockIdx.x % filter_blocks * FILTERS, row0 = blockIdx.x / filter_blocks % row_blocks * ROWS;
  const unsigned part = blockIdx.x / filter_blocks / row_blocks;
  const unsigned first = part * steps, end = first + steps < all ? first + steps : all;

  for (unsigned row = threadIdx.x; row < ROWS; row += THREADS) {
    const unsigned tap = row0 + row, c = tap / S / R, r = tap / S % R, s = tap % S;
    begin[row] = ((c * H + r) * W + s) * N;
  }
  __syncthreads();

  auto copy = [&](unsigned stage, unsigned i) {  // beyond the arrays come zeros
    const Step step = step_of(i, dz.P, dz.Q);
    const unsigned lane = threadIdx.x % LINE * WIDTH, line = threadIdx.x / LINE, n = step.n0 + lane;
    const float* from = x + (step.p * W + step.q) * N + n;
#pragma unroll 4
    for (unsigned row = line; row < ROWS; row += LINES) {
      const bool inside = row0 + row < taps && n < N;
      copy_async<WIDTH * 4>(&inputs[stage][row][lane], inside ? from + begin[row] : x, inside ? WIDTH * 4 : 0);
    }
    commit_async();
#pragma unroll 2
    for (unsigned filter = line; filter < FILTERS; filter += LINES) {
      const bool inside = k0 + filter < K && n < N;
      dz.copy<WIDTH>(&gradients[stage][filter][lane], inside, k0 + filter, step.p, step.q, n);
    }
  };

  const unsigned column = threadIdx.x % (FILTERS / FILTERS_EACH), line = threadIdx.x / (FILTERS / FILTERS_EACH);
  float sums[ROWS_EACH][FILTERS_EACH] = {};  // rows line + 16·u, filters column + 8·v
  if (first < end) copy(0, first);
  unsigned stage = 0;
#pragma unroll 1
  for (unsigned i = first; i < end; ++i) {
    wait_async<0>();
    __syncthreads();  // this stage is there, and nobody reads the other one any more
    if (i + 1 < end) copy(stage ^ 1, i + 1);
#pragma unroll 2
    for (unsigned image = 0; image < IMAGES; image += 4) {
      float4 a[ROWS_EACH];
#pragma unroll
      for (unsigned u = 0; u < ROWS_EACH; ++u) a[u] = load4(&inputs[stage][line + ROWS / ROWS_EACH * u][image]);
#pragma unroll
      for (unsigned v = 0; v < FILTERS_EACH; ++v) {
        const float4 b = load4(&gradients[stage][column + FILTERS / FILTERS_EACH * v][image]);
#pragma unroll
        for (unsigned u = 0; u < ROWS_EACH; ++u) {
          sums[u][v] = fmaf(a[u].x, b.x, sums[u][v]);
          sums[u][v] = fmaf(a[u].y, b.y, sums[u][v]);
          sums[u][v] = fmaf(a[u].z, b.z, sums[u][v]);
          sums[u][v] = fmaf(a[u].w, b.w, sums[u][v]);
        }
      }
    }
    stage ^= 1;
  }
#pragma unroll
  for (unsigned u = 0; u < ROWS_EACH; ++u) {
#pragma unroll
    for (unsigned v = 0; v < FILTERS_EACH; ++v) {
      const unsigned row = row0 + line + ROWS / ROWS_EACH * u, k = k0 + column + FILTERS / FILTERS_EACH * v;
      if (row < taps && k < K) partial[(part * taps + row) * K + k] = sums[u][v];
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    conv2d_backward_weights_tiled(const float* __restrict__ x, const float* __restrict__ gradient,
                                  const void* __restrict__ saved, float* __restrict__ partial, unsigned C, unsigned H,
                                  unsigned W, unsigned N, unsigned R, unsigned S, unsigned K, unsigned epilogue,
                                  unsigned steps) {
  multiply_tiles<false>(x, {gradient, saved, epilogue, H - R + 1, W - S + 1, N}, partial, C, H, W, R, S, K, steps);
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    conv2d_backward_weights_vectorised(const float* __restrict__ x, const float* __restrict__ gradient,
                                       const void* __restrict__ saved, float* __restrict__ partial, unsigned C,
                                       unsigned H, unsigned W, unsigned N, unsigned R, unsigned S, unsigned K,
                                       unsigned epilogue, unsigned steps) {
  multiply_tiles<true>(x, {gradient, saved, epilogue, H - R + 1, W - S + 1, N}, partial, C, H, W, R, S, K, steps);
}

extern "C" __global__ void conv2d_backward_weights_sum(const float* __restrict__ partial, float* __restrict__ dweight,
                                                       unsigned parts, unsigned size) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= size) return;
  dweight[index] =
      sum_in_runs(0, parts, 1, [&](float sum, unsigned part) { return sum + partial[part * size + index]; });
}
