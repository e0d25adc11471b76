// conv2d_forward_wgmma: the forward pass of conv2d/forward.cu by the tensor cores' warpgroup products (sm_90a).
//
//   y, code    as in conv2d/forward.cu; by `tf32` of x and weight rounded to tf32, by `fp32x3` within float32's error
//
// Arrays     x (C, H, W, N), bias (K, P, Q), y, code: as there. C is a multiple of 8, N of 4, K of OUTPUTS;
//            a sum has at most 4,096 terms.
//            packed: weight (C, R, S, K) as `pack` leaves it, see wgmma.cuh; depth C, outputs K.
// Threads    pack: one a packed number.
//            others: a block has WINDOW_ROWS × WINDOW_COLUMNS windows × IMAGE_GROUPS · 16 images × OUTPUTS filters.
// NaN, ties  as in conv2d/forward.cu; by fp32x3 an infinity may give NaN, as it is taken apart.
// Versions   tf32     activations are multiplied from registers, each loaded once for up to four sums; the tensor cores
//                     read the weights from shared memory themselves. Stages of 8 channels are copied meanwhile.
//            fp32x3   three products in place of one: of what was rounded, and twice of one with the other's rest; OUTPUTS is
//                     32, and a block has at most 8 warps

#ifndef TILE  // R, S, epilogue, OUTPUTS, WINDOW_ROWS, WINDOW_COLUMNS, IMAGE_GROUPS, STAGES; here conv2 of the published net
#define TILE 5, 5, 2, 32, 2, 4, 1, 2
#endif

#include "../include/async_copy.cuh"
#include "wgmma.cuh"
#include "window.cuh"

struct T : WgmmaTile<TILE> {
  static constexpr unsigned HEIGHT = 2 * WINDOW_ROWS + R - 1, WIDTH = 2 * WINDOW_COLUMNS + S - 1;  // of a block's patch
  static constexpr unsigned CHANNEL = HEIGHT * WIDTH * IMAGES + 8;  // so that 4 channels × 8 images are in 32 banks
  static constexpr unsigned PATCH = DEPTH * CHANNEL;
};

extern "C" __global__ void conv2d_forward_wgmma_pack(const float* __restrict__ weight, float* __restrict__ packed,
                                                     unsigned C, unsigned K, unsigned planes) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= planes * C * T::R * T::S * K) return;
  const PackedPlace place = packed_place<T>(index, planes, K);
  packed[index] = packed_value(weight[(place.depth * T::R * T::S + place.tap) * K + place.output], place.plane);
}

// Starts the copies of a stage: a block's patch of eight channels, zeros beyond the image, then their weights.
template <unsigned PLANES>
__device__ __forceinline__ void copy_stage(float* to, const float* x, const float* packed, unsigned H, unsigned W,
                                           unsigned N, unsigned c0, unsigned h0, unsigned w0, unsigned n0) {
  constexpr unsigned LINE = T::IMAGES / 4, POSITIONS = T::HEIGHT * T::WIDTH;  // a line: 16 bytes each
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < DEPTH * POSITIONS * LINE; i += T::THREADS) {
    const unsigned lane = 4 * (i % LINE), position = i / LINE % POSITIONS, channel = i / LINE / POSITIONS;
    const unsigned h = h0 + position / T::WIDTH, w = w0 + position % T::WIDTH, n = n0 + lane;
    const bool inside = h < H && w < W && n < N;
    copy_async<16>(to + channel * T::CHANNEL + position * T::IMAGES + lane,
                   inside ? x + (((c0 + channel) * H + h) * W + w) * N + n : x, inside ? 16 : 0);
  }
  to += T::PATCH;
#pragma unroll 1
  for (unsigned i = 4 * threadIdx.x; i < PLANES * T::WEIGHTS; i += 4 * T::THREADS) copy_async<16>(to + i, packed + i);
}

template <unsigned PRECISION>
__device__ __forceinline__ void forward(const float* __restrict__ x, const float* __restrict__ packed,
                                        const float* __restrict__ bias, float* __restrict__ y,
                                        unsigned char* __restrict__ code, unsigned C, unsigned H, unsigned W,
                                        unsigned N, unsigned K) {
  constexpr unsigned PLANES = PRECISION == FP32X3 ? 2 : 1, STAGE = T::PATCH + PLANES * T::WEIGHTS;
  extern __shared__ __align__(128) float stages[];
  const unsigned P = H - T::R + 1, Q = W - T::S + 1, parts = K / T::OUTPUTS, eights = C / DEPTH;
  const WgmmaThread<T> me((P + 1) / 2, (Q + 1) / 2, N);
  const unsigned mine = me.t * T::CHANNEL + (2 * me.row * T::WIDTH + 2 * me.column) * T::IMAGES + me.image;

  auto copy = [&](unsigned eight) {
    if (eight < eights)
      copy_stage<PLANES>(stages + eight % T::STAGES * STAGE, x,
                         packed + (eight * parts + me.part) * PLANES * T::WEIGHTS, H, W, N, DEPTH * eight, 2 * me.i0,
                         2 * me.j0, me.n0);
    commit_async();  // an empty group too, so that the count of groups tells the stage
  };
  WgmmaSums<T> sums;
  sums.clear();
#pragma unroll
  for (unsigned eight = 0; eight + 1 < T::STAGES; ++eight) copy(eight);
#pragma unroll 1
  for (unsigned eight = 0; eight < eights; ++eight) {
    copy(eight + T::STAGES - 1);
    wait_async<T::STAGES - 1>();
    fence_async();
    __syncthreads();
    const float *stage = stages + eight % T::STAGES * STAGE, *patch = stage + mine;
    auto load = [patch](unsigned row, unsigned column, Fragment<4, PRECISION>& a) {
#pragma unroll
      for (unsigned half = 0; half < 2; ++half) {
        const float2 images = load2(patch + 4 * half * T::CHANNEL + (row * T::WIDTH + column) * T::IMAGES);
        a.set(2 * half, images.x);
        a.set(2 * half + 1, images.y);
      }
    };
    sums.accumulate<PRECISION>(load, columns_at(stage + T::PATCH));
    __syncthreads();  // before the next copy overwrites this stage
  }

  const unsigned n = me.n0 + me.image;
  if (n >= N) return;
#pragma unroll
  for (unsigned pair = 0; pair < T::OUTPUTS / 4; ++pair) {
    const Window window = {me.output(pair), me.i0 + me.row, me.j0 + me.column, P, Q, N};
    if (!window.has(0)) continue;
    float z[2][4];  // image, position
#pragma unroll
    for (unsigned position = 0; position < 4; ++position) {
      const float2 sum = sums.sum(position, pair);
      const float b = window.has(position) ? bias[window.sum_offset(position)] : 0.0f;
      z[0][position] = activated(sum.x + b, T::EPILOGUE);
      z[1][position] = activated(sum.y + b, T::EPILOGUE);
      if (T::EPILOGUE != POOL && window.has(position))
        store2(y + window.sum_offset(position) * N + n, make_float2(z[0][position], z[1][position]));
    }
    if (T::EPILOGUE == POOL) {
      unsigned char codes[2];
      store2(y + window.pooled_offset() * N + n,
             make_float2(window.pooled(z[0], codes[0]), window.pooled(z[1], codes[1])));
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
  if constexpr (T::HAS_FP32X3)
    forward<FP32X3>(x, packed, bias, y, code, C, H, W, N, K);
  else
    __trap();
}
