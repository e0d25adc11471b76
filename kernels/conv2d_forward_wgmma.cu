// conv2d_forward_wgmma: the forward pass of conv2d_forward.cu by the tensor cores' warpgroup products (sm_90a).
//
//   y, code    as in conv2d_forward.cu; by `tf32` of x and weight rounded to tf32, by `fp32x3` within float32's error
//
// Arrays     x (C, H, W, N), bias (K, P, Q), y, code: as there. C is a multiple of 8, N of 4, K of FILTERS.
//            packed: weight (C, R, S, K) as `pack` leaves it, in the order in which a block reads it: (C / 8, K / FILTERS,
//            PLANES, R, S, FILTERS / 8, 2 tiles of 4 channels, 8 filters, 4 channels). Plane 0 is weight rounded to tf32,
//            plane 1 (fp32x3 alone) what that left.
// Threads    pack: one a packed number.
//            others: a warp has one window of 2×2 positions × 16 images × FILTERS; a block WINDOW_ROWS × WINDOW_COLUMNS
//            windows × IMAGE_GROUPS · 16 images. Along the grid images innermost, then windows, then filters.
// NaN, ties  as in conv2d_forward.cu; by fp32x3 an infinite input gives NaN.
// Versions   tf32     a warp loads each position of its patch once into registers, as images × channels, and multiplies
//                     it by the weights of every tap that takes it to one of the window's four sums. The weights, in
//                     shared memory, are read by the tensor cores themselves. Stages of 8 channels are copied meanwhile.
//            fp32x3   three products in place of one: of what was rounded, and twice of one with the other's rest

#ifndef TILE  // R, S, form, FILTERS, WINDOW_ROWS, WINDOW_COLUMNS, IMAGE_GROUPS, STAGES; here conv2 of the published net
#define TILE 5, 5, 2, 64, 2, 4, 1, 2
#endif

#include "include/async_copy.cuh"
#include "include/conv2d_window.cuh"
#include "include/float4.cuh"
#include "include/mma.cuh"
#include "include/wgmma.cuh"

constexpr unsigned CHANNELS = 8;  // of a stage: the depth of a product

template <unsigned R_, unsigned S_, unsigned FORM_, unsigned FILTERS_, unsigned WINDOW_ROWS_, unsigned WINDOW_COLUMNS_,
          unsigned IMAGE_GROUPS_, unsigned STAGES_>
struct Tile {
  static constexpr unsigned R = R_, S = S_, FORM = FORM_, FILTERS = FILTERS_, WINDOW_ROWS = WINDOW_ROWS_,
                            WINDOW_COLUMNS = WINDOW_COLUMNS_, IMAGE_GROUPS = IMAGE_GROUPS_, STAGES = STAGES_;
  static constexpr unsigned WARPS = WINDOW_ROWS * WINDOW_COLUMNS * IMAGE_GROUPS, THREADS = 32 * WARPS;
  static constexpr unsigned IMAGES = 16 * IMAGE_GROUPS;
  static constexpr unsigned HEIGHT = 2 * WINDOW_ROWS + R - 1, WIDTH = 2 * WINDOW_COLUMNS + S - 1;  // of a block's patch
  static constexpr unsigned CHANNEL = HEIGHT * WIDTH * IMAGES + 8;  // so that 4 channels × 8 images are in 32 banks
  static constexpr unsigned PATCH = CHANNELS * CHANNEL, WEIGHTS = R * S * FILTERS * CHANNELS;
  static_assert(WARPS % 4 == 0, "a warpgroup is four warps");
};
using T = Tile<TILE>;

extern "C" __global__ void conv2d_forward_wgmma_pack(const float* __restrict__ weight, float* __restrict__ packed,
                                                     unsigned C, unsigned K, unsigned planes) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= C * T::R * T::S * K * planes) return;
  const unsigned c_low = index % 4, k_low = index / 4 % 8, c_half = index / 32 % 2, k_eight = index / 64 % (T::FILTERS / 8);
  unsigned rest = index / (8 * T::FILTERS);
  const unsigned tap = rest % (T::R * T::S);
  rest /= T::R * T::S;
  const unsigned plane = rest % planes, part = rest / planes % (K / T::FILTERS), c_eight = rest / planes / (K / T::FILTERS);
  const unsigned c = 8 * c_eight + 4 * c_half + c_low, k = T::FILTERS * part + 8 * k_eight + k_low;
  const float w = weight[(c * T::R * T::S + tap) * K + k], rounded = __uint_as_float(to_tf32(w));
  packed[index] = plane == 0 ? rounded : __uint_as_float(to_tf32(w - rounded));
}

// Starts the copies of a stage: a block's patch of eight channels, zeros beyond the image, then their weights.
template <unsigned PLANES>
__device__ __forceinline__ void copy_stage(float* to, const float* x, const float* packed, unsigned H, unsigned W,
                                           unsigned N, unsigned c0, unsigned h0, unsigned w0, unsigned n0) {
  constexpr unsigned LINE = T::IMAGES / 4, ROWS = CHANNELS * T::HEIGHT * T::WIDTH;  // 16 bytes each
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < ROWS * LINE; i += T::THREADS) {
    const unsigned row = i / LINE, n = n0 + 4 * (i % LINE), position = row % (T::HEIGHT * T::WIDTH);
    const unsigned channel = row / (T::HEIGHT * T::WIDTH), h = h0 + position / T::WIDTH, w = w0 + position % T::WIDTH;
    const bool inside = h < H && w < W && n < N;
    copy_async<16>(to + channel * T::CHANNEL + position * T::IMAGES + 4 * (i % LINE),
                   inside ? x + (((c0 + channel) * H + h) * W + w) * N + n : x, inside ? 16 : 0);
  }
  to += T::PATCH;
#pragma unroll 1
  for (unsigned i = 4 * threadIdx.x; i < PLANES * T::WEIGHTS; i += 4 * T::THREADS) copy_async<16>(to + i, packed + i);
  commit_async();
}

// The four sums of a window, position after position, as a lane has them.
using Sums = float[4][T::FILTERS / 2];

// Adds one stage: `patch` at the warp's window and the lane's images and channel.
template <unsigned PRECISION>
__device__ __forceinline__ void multiply_stage(Sums& sums, const float* patch, Columns weights) {
  Fragment<4, PRECISION> x[2];  // one is multiplied while the next is loaded
#pragma unroll
  for (unsigned position = 0; position < (T::R + 1) * (T::S + 1); ++position) {
    const unsigned row = position / (T::S + 1), column = position % (T::S + 1);
    Fragment<4, PRECISION>& a = x[position % 2];
    wgmma_wait<1>();  // for the products of the one before the last, which had these registers
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      const float2 images = *reinterpret_cast<const float2*>(patch + 4 * half * T::CHANNEL +
                                                             (row * T::WIDTH + column) * T::IMAGES);
      a.set(2 * half, images.x);
      a.set(2 * half + 1, images.y);
    }
    wgmma_fence();
#pragma unroll
    for (unsigned corner = 0; corner < 4; ++corner) {
      if (row < corner / 2 || column < corner % 2) continue;
      const unsigned r = row - corner / 2, s = column - corner % 2;
      if (r >= T::R || s >= T::S) continue;
      const Columns w = columns_after(weights, (r * T::S + s) * T::FILTERS * CHANNELS);
      if constexpr (PRECISION == FP32X3) {  // the small ones first
        wgmma(sums[corner], a.rest, w);
        wgmma(sums[corner], a.rounded, columns_after(w, T::WEIGHTS));
      }
      wgmma(sums[corner], a.rounded, w);
    }
    wgmma_commit();
  }
}

template <unsigned PRECISION>
__device__ __forceinline__ void forward(const float* __restrict__ x, const float* __restrict__ packed,
                                        const float* __restrict__ bias, float* __restrict__ y,
                                        unsigned char* __restrict__ code, unsigned C, unsigned H, unsigned W, unsigned N,
                                        unsigned K) {
  constexpr unsigned PLANES = PRECISION == FP32X3 ? 2 : 1, STAGE = T::PATCH + PLANES * T::WEIGHTS;
  extern __shared__ __align__(128) float stages[];
  const unsigned P = H - T::R + 1, Q = W - T::S + 1, parts = K / T::FILTERS;
  const unsigned groups = (N + T::IMAGES - 1) / T::IMAGES;
  const unsigned columns = ((Q + 1) / 2 + T::WINDOW_COLUMNS - 1) / T::WINDOW_COLUMNS;
  const unsigned rows = ((P + 1) / 2 + T::WINDOW_ROWS - 1) / T::WINDOW_ROWS;
  const unsigned n0 = blockIdx.x % groups * T::IMAGES, j0 = blockIdx.x / groups % columns * T::WINDOW_COLUMNS;
  const unsigned i0 = blockIdx.x / groups / columns % rows * T::WINDOW_ROWS, part = blockIdx.x / groups / columns / rows;

  const unsigned warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const unsigned group = warp % T::IMAGE_GROUPS, column = warp / T::IMAGE_GROUPS % T::WINDOW_COLUMNS;
  const unsigned row = warp / T::IMAGE_GROUPS / T::WINDOW_COLUMNS;
  // Rows g and g + 8 of a product are images 2g and 2g + 1, side by side in memory.
  const unsigned image = 16 * group + 2 * g, mine = t * T::CHANNEL + (2 * row * T::WIDTH + 2 * column) * T::IMAGES + image;

  Sums sums;
#pragma unroll
  for (unsigned corner = 0; corner < 4; ++corner)
#pragma unroll
    for (unsigned i = 0; i < T::FILTERS / 2; ++i) sums[corner][i] = 0;

  const unsigned eights = C / CHANNELS;
  auto copy = [&](unsigned eight) {
    if (eight < eights)
      copy_stage<PLANES>(stages + eight % T::STAGES * STAGE, x, packed + (eight * parts + part) * PLANES * T::WEIGHTS, H,
                         W, N, CHANNELS * eight, 2 * i0, 2 * j0, n0);
    else
      commit_async();  // an empty group, so that the count of groups tells the stage
  };
#pragma unroll
  for (unsigned eight = 0; eight + 1 < T::STAGES; ++eight) copy(eight);
#pragma unroll 1
  for (unsigned eight = 0; eight < eights; ++eight) {
    copy(eight + T::STAGES - 1);
    wait_async<T::STAGES - 1>();
    fence_async();
    __syncthreads();
    const float* stage = stages + eight % T::STAGES * STAGE;
    multiply_stage<PRECISION>(sums, stage + mine, columns_at(stage + T::PATCH));
    wgmma_wait<0>();
    __syncthreads();  // before the next copy overwrites this stage
  }

  const unsigned n = n0 + image;
  if (n >= N) return;
#pragma unroll
  for (unsigned pair = 0; pair < T::FILTERS / 4; ++pair) {
    const unsigned at = pair / 2 * 4 + pair % 2;  // of the sum of image n; that of n + 1 is two behind it
    const Window window = {part * T::FILTERS + pair / 2 * 8 + 2 * t + pair % 2, i0 + row, j0 + column, P, Q, N};
    if (!window.has(0)) continue;
    float z[2][4];  // image, position
#pragma unroll
    for (unsigned position = 0; position < 4; ++position) {
      const float b = window.has(position) ? bias[window.sum_offset(position)] : 0.0f;
      z[0][position] = activated(sums[position][at] + b, T::FORM);
      z[1][position] = activated(sums[position][at + 2] + b, T::FORM);
      if (T::FORM != POOL && window.has(position))
        *reinterpret_cast<float2*>(y + window.sum_offset(position) * N + n) = make_float2(z[0][position], z[1][position]);
    }
    if (T::FORM == POOL) {
      unsigned char codes[2];
      const float2 largest = make_float2(window.pooled(z[0], codes[0]), window.pooled(z[1], codes[1]));
      *reinterpret_cast<float2*>(y + window.pooled_offset() * N + n) = largest;
      *reinterpret_cast<uchar2*>(code + window.pooled_offset() * N + n) = make_uchar2(codes[0], codes[1]);
    }
  }
}

extern "C" __global__ void __launch_bounds__(T::THREADS, 1)
    conv2d_forward_wgmma_tf32(const float* __restrict__ x, const float* __restrict__ packed,
                              const float* __restrict__ bias, float* __restrict__ y, unsigned char* __restrict__ code,
                              unsigned C, unsigned H, unsigned W, unsigned N, unsigned K) {
  forward<TF32>(x, packed, bias, y, code, C, H, W, N, K);
}

extern "C" __global__ void __launch_bounds__(T::THREADS, 1)
    conv2d_forward_wgmma_fp32x3(const float* __restrict__ x, const float* __restrict__ packed,
                                const float* __restrict__ bias, float* __restrict__ y, unsigned char* __restrict__ code,
                                unsigned C, unsigned H, unsigned W, unsigned N, unsigned K) {
  forward<FP32X3>(x, packed, bias, y, code, C, H, W, N, K);
}
