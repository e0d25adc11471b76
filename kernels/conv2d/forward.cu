// conv2d_forward: convolution, untied bias, ReLU and 2×2 max-pool in one kernel.
//
//   z[k, p, q, n] = Σ_{c,r,s} weight[c, r, s, k] · x[c, p + r, q + s, n] + bias[k, p, q]
//   PLAIN   y = z
//   RELU    y = z < 0 ? 0 : z
//   POOL    y[k, i, j, n] = the largest of the four rectified z at p = 2i, 2i + 1 and q = 2j, 2j + 1;
//           code = mask (bit 2·row + column) of those that equal it and are > 0
//
// Arrays     x (C, H, W, N), weight (C, R, S, K), bias (K, P, Q), P = H − R + 1, Q = W − S + 1; y (K, P, Q, N), by POOL
//            y and code (uint8) (K, ⌈P/2⌉, ⌈Q/2⌉, N): a window over the border takes what is there.
// Threads    naive: one a window of 2×2 positions, n innermost.
//            others: a block of 128 has 32 filters × 32 images × two windows side by side, see tile.cuh; along
//            the grid n innermost, then windows, then filters.
// NaN, ties  NaN passes through ReLU and pool, with code 0. Positions that tie are all in the code.
// Versions   naive        every thread reads all of its inputs and weights from memory
//            tiled        patches and weights in shared memory, copied while those before are multiplied; 64 sums a thread
//            vectorised   16-byte copies: N and K multiples of 4
//            long         sums of more than 4,096 terms: partial sums are added up

#include "../include/async_copy.cuh"
#include "../include/reduce.cuh"
#include "tile.cuh"
#include "window.cuh"

extern "C" __global__ void conv2d_forward_naive(const float* __restrict__ x, const float* __restrict__ weight,
                                                const float* __restrict__ bias, float* __restrict__ y,
                                                unsigned char* __restrict__ code, unsigned C, unsigned H, unsigned W,
                                                unsigned N, unsigned R, unsigned S, unsigned K, unsigned epilogue) {
  const unsigned P = H - R + 1, Q = W - S + 1, rows = (P + 1) / 2, columns = (Q + 1) / 2;
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= K * rows * columns * N) return;
  const unsigned n = index % N, window = index / N;
  const Window here = {window / columns / rows, window / columns % rows, window % columns, P, Q, N};
  float z[4] = {};
  for (unsigned position = 0; position < 4; ++position) {
    if (!here.has(position)) continue;
    const unsigned p = 2 * here.i + position / 2, q = 2 * here.j + position % 2;
    const float sum = sum_in_runs(0, C * R * S, 1, [&](float run, unsigned tap) {
      const unsigned s = tap % S, r = tap / S % R, c = tap / S / R;
      return fmaf(weight[tap * K + here.k], x[((c * H + p + r) * W + q + s) * N + n], run);
    });
    z[position] = sum + bias[here.sum_offset(position)];
    if (epilogue != POOL) y[here.sum_offset(position) * N + n] = activated(z[position], epilogue);
  }
  if (epilogue == POOL) {
    const unsigned at = here.pooled_offset() * N + n;
    y[at] = here.pooled(z, code[at]);
  }
}

// Copies one stage, `channels` channels from c0 on: the patch of the block, then the weights. Zeros beyond the arrays.
template <bool VECTORISED>
struct Stage {
  const float *x, *weight;
  unsigned C, H, W, N, R, S, K;
  unsigned n0, h0, w0, k0;  // where the block's images, patch and filters begin

  __device__ __forceinline__ unsigned patch() const { return patch_height(R) * patch_width(S) * TILE_N; }

  __device__ __forceinline__ void copy(float* to, unsigned c0, unsigned channels) const {
    constexpr unsigned WIDTH = VECTORISED ? 4 : 1, LINE = TILE_N / WIDTH;
    const unsigned lane = threadIdx.x % LINE * WIDTH, first = threadIdx.x / LINE;
    const unsigned width = patch_width(S), rows = channels * patch_height(R) * width;
#pragma unroll 1
    for (unsigned row = first; row < rows; row += TILE_THREADS / LINE) {
      const unsigned c = c0 + row / width / patch_height(R), h = h0 + row / width % patch_height(R);
      const unsigned w = w0 + row % width, n = n0 + lane;
      const bool inside = c < C && h < H && w < W && n < N;
      copy_async<WIDTH * 4>(to + row * TILE_N + lane, inside ? x + ((c * H + h) * W + w) * N + n : x,
                            inside ? WIDTH * 4 : 0);
    }
    to += channels * patch();
#pragma unroll 1
    for (unsigned row = first; row < channels * R * S; row += TILE_THREADS / LINE) {
      const unsigned k = k0 + lane;
      const bool inside = c0 * R * S + row < C * R * S && k < K;
      copy_async<WIDTH * 4>(to + row * TILE_CHANNELS + lane, inside ? weight + (c0 * R * S + row) * K + k : weight,
                            inside ? WIDTH * 4 : 0);
    }
    commit_async();
  }
};

template <bool VECTORISED, bool LONG>
__device__ __forceinline__ void forward_tile(const float* __restrict__ x, const float* __restrict__ weight,
                                             const float* __restrict__ bias, float* __restrict__ y,
                                             unsigned char* __restrict__ code, unsigned C, unsigned H, unsigned W,
                                             unsigned N, unsigned R, unsigned S, unsigned K, unsigned epilogue,
                                             unsigned channels) {
  extern __shared__ __align__(16) float stages[];
  const unsigned P = H - R + 1, Q = W - S + 1;
  const unsigned images = (N + TILE_N - 1) / TILE_N, rows = (P + 1) / 2, pairs = ((Q + 1) / 2 + WINDOWS - 1) / WINDOWS;
  const unsigned i = blockIdx.x / images / pairs % rows, j0 = blockIdx.x / images % pairs * WINDOWS;
  const unsigned n0 = blockIdx.x % images * TILE_N, k0 = blockIdx.x / images / pairs / rows * TILE_CHANNELS;
  const Stage<VECTORISED> stage = {x, weight, C, H, W, N, R, S, K, n0, 2 * i, 2 * j0, k0};
  const TileThread me = tile_thread();
  const Taps taps = {0, R, 0, 2 * (j0 + me.window) < Q ? S : 0};  // none by a window beyond the last one
  const unsigned patch = stage.patch(), weights = R * S * TILE_CHANNELS, size = channels * (patch + weights);

  WindowSums sums, total;
  sums.clear();
  if (LONG) total.clear();
  stage.copy(stages, 0, channels);
  unsigned terms = 0;
#pragma unroll 1
  for (unsigned c0 = 0, buffer = 0; c0 < C; c0 += channels, buffer ^= 1) {
    if (c0 + channels < C) {
      stage.copy(stages + (buffer ^ 1) * size, c0 + channels, channels);
      wait_async<1>();
    } else {
      wait_async<0>();
    }
    __syncthreads();
    const float* from = stages + buffer * size;
#pragma unroll 1
    for (unsigned c = 0; c < channels; ++c)
      sums.accumulate(from + c * patch + 2 * me.window * TILE_N + me.n,
                      from + channels * patch + c * weights + me.channel, S, taps);
    terms += channels * R * S;
    if (LONG && terms + channels * R * S > LONGEST_CHAIN) {
      total.add(sums);
      sums.clear();
      terms = 0;
    }
    __syncthreads();  // before the next copy overwrites this stage
  }
  if (LONG) sums.add(total);

  const unsigned n = n0 + me.n, count = n < N ? N - n : 0;
#pragma unroll
  for (unsigned filter = 0; filter < 4; ++filter) {
    const Window window = {k0 + me.channel + filter, i, j0 + me.window, P, Q, N};
    if (window.k >= K) continue;
    float z[4][4];  // image, position
#pragma unroll
    for (unsigned position = 0; position < 4; ++position) {
      const float4 sum = sums.at[filter][position];
      const float b = window.has(position) ? bias[window.sum_offset(position)] : 0.0f;
      z[0][position] = activated(sum.x + b, epilogue);
      z[1][position] = activated(sum.y + b, epilogue);
      z[2][position] = activated(sum.z + b, epilogue);
      z[3][position] = activated(sum.w + b, epilogue);
      if (epilogue != POOL && window.has(position))
        store_up_to_4<VECTORISED>(y + window.sum_offset(position) * N + n,
                                  make_float4(z[0][position], z[1][position], z[2][position], z[3][position]), count);
    }
    if (epilogue == POOL && window.has(0)) {
      unsigned char codes[4];
      const float4 largest = make_float4(window.pooled(z[0], codes[0]), window.pooled(z[1], codes[1]),
                                         window.pooled(z[2], codes[2]), window.pooled(z[3], codes[3]));
      const unsigned at = window.pooled_offset() * N + n;
      store_up_to_4<VECTORISED>(y + at, largest, count);
      if (VECTORISED) {
        if (count > 0) *reinterpret_cast<uchar4*>(code + at) = make_uchar4(codes[0], codes[1], codes[2], codes[3]);
      } else {
        for (unsigned image = 0; image < 4 && image < count; ++image) code[at + image] = codes[image];
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    conv2d_forward_tiled(const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
                         float* __restrict__ y, unsigned char* __restrict__ code, unsigned C, unsigned H, unsigned W,
                         unsigned N, unsigned R, unsigned S, unsigned K, unsigned epilogue, unsigned channels) {
  forward_tile<false, false>(x, weight, bias, y, code, C, H, W, N, R, S, K, epilogue, channels);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    conv2d_forward_vectorised(const float* __restrict__ x, const float* __restrict__ weight,
                              const float* __restrict__ bias, float* __restrict__ y, unsigned char* __restrict__ code,
                              unsigned C, unsigned H, unsigned W, unsigned N, unsigned R, unsigned S, unsigned K,
                              unsigned epilogue, unsigned channels) {
  forward_tile<true, false>(x, weight, bias, y, code, C, H, W, N, R, S, K, epilogue, channels);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    conv2d_forward_long(const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
                        float* __restrict__ y, unsigned char* __restrict__ code, unsigned C, unsigned H, unsigned W,
                        unsigned N, unsigned R, unsigned S, unsigned K, unsigned epilogue, unsigned channels) {
  forward_tile<false, true>(x, weight, bias, y, code, C, H, W, N, R, S, K, epilogue, channels);
}
