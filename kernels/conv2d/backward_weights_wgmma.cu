// conv2d_backward_weights_wgmma: the gradient of the weights, as conv2d/backward_weights.cu, by the tensor cores'
// warpgroup products (sm_90a).
//
//   dweight[c, r, s, k] = Σ_{p,q,n} x[c, p + r, q + s, n] · dz[k, p, q, n], dz as in gradient.cuh;
//   of x and dz rounded to tf32
//
// The sum runs over steps of two rows of dz and eight images; parts of so many steps are added up by
// conv2d_backward_weights_sum.
//
// Arrays     x (C, H, COLUMNS, N); gradient and saved of y (K, P, Q, N) or (K, ⌈P/2⌉, ⌈Q/2⌉, N); partial (SPLITS · parts, C,
//            R, S, K). N is a multiple of 8 and not 0, C of a block's channels, K of its filters.
// Threads    A warpgroup has 64 filters × CHANNELS channels × all taps, of all rows of dz or, where SPLITS is 2, of every
//            other. A block has FILTER_GROUPS · 64 filters × CHANNEL_GROUPS · CHANNELS channels. Grid: x channels, y filters,
//            z parts.
// NaN, ties  as in conv2d/backward_weights.cu.
// Versions   one: dz is rebuilt in registers, images × filters, and multiplied by the inputs under each tap, which the
//            tensor cores read from shared memory: once copied and rounded, they serve all taps and filters. Sums of more
//            than 4,096 terms go to memory, each added to the one before.

#ifndef TILE  // R, S, COLUMNS, epilogue, FILTER_GROUPS, CHANNELS, CHANNEL_GROUPS, SPLITS, STAGES; here conv2 of the published net
#define TILE 5, 5, 20, 2, 1, 16, 1, 2, 2
#endif

#include "../include/async_copy.cuh"
#include "../include/float4.cuh"
#include "../include/mma.cuh"
#include "../include/opaque.cuh"
#include "../include/padded.cuh"
#include "../include/wgmma.cuh"
#include "epilogue.cuh"

constexpr unsigned IMAGES = 8;  // of a step: the depth of a product

template <unsigned R_, unsigned S_, unsigned COLUMNS_, unsigned EPILOGUE_, unsigned FILTER_GROUPS_, unsigned CHANNELS_,
          unsigned CHANNEL_GROUPS_, unsigned SPLITS_, unsigned STAGES_>
struct Tile {
  static constexpr unsigned R = R_, S = S_, COLUMNS = COLUMNS_, EPILOGUE = EPILOGUE_, FILTER_GROUPS = FILTER_GROUPS_;
  static constexpr unsigned CHANNELS = CHANNELS_, CHANNEL_GROUPS = CHANNEL_GROUPS_, SPLITS = SPLITS_, STAGES = STAGES_;
  static constexpr unsigned WARPGROUPS = FILTER_GROUPS * CHANNEL_GROUPS * SPLITS, THREADS = 128 * WARPGROUPS;
  static constexpr unsigned BLOCK_FILTERS = 64 * FILTER_GROUPS, BLOCK_CHANNELS = CHANNELS * CHANNEL_GROUPS;

  // The inputs of a step: R + 1 rows, the channels of a position as the tensor cores read them.
  static constexpr unsigned ROWS = R + 1, POSITION = BLOCK_CHANNELS * IMAGES, INPUTS = ROWS * COLUMNS * POSITION;
  // Gradient and saved of a step: two rows, by POOL one of windows.
  static constexpr unsigned PACE = EPILOGUE == POOL ? 2 : 1, Q = COLUMNS - S + 1, LINE = (Q + PACE - 1) / PACE;
  static constexpr unsigned FILTER =
      padded(2 / PACE * LINE * IMAGES, 4, 32);                     // floats: 8 filters × 4 images in 32 banks
  static constexpr unsigned CODES = padded(LINE * IMAGES, 8, 16);  // bytes: 8 filters in 16 banks
  static constexpr unsigned GRADIENT = BLOCK_FILTERS * FILTER;
  static constexpr unsigned SAVED = EPILOGUE == POOL ? BLOCK_FILTERS * CODES / 4 : EPILOGUE == RELU ? GRADIENT : 0;
  static constexpr unsigned STAGE = INPUTS + GRADIENT + SAVED;
};
using T = Tile<TILE>;

// Where the images and the first of the two rows of dz of a step begin.
struct Step {
  unsigned n0, p0;
};

__device__ __forceinline__ Step step_of(unsigned step, unsigned P) {
  const unsigned pairs = (P + 1) / 2;
  return {step / pairs * IMAGES, 2 * (step % pairs)};
}

struct Layer {
  const float *x, *gradient;
  const void* saved;
  unsigned H, N, P;
  unsigned c0, k0;  // the block's first channel and filter

  // Starts the copies of a step. Zeros for what is not there, so that it adds nothing.
  __device__ __forceinline__ void copy(float* to, Step step) const {
#pragma unroll 1
    for (unsigned i = opaque(threadIdx.x); i < T::INPUTS / 4; i += T::THREADS) {    // four images each
      const unsigned half = i / 8 % 2, position = i / 16 % (T::ROWS * T::COLUMNS);  // lanes of a tile side by side
      const unsigned c = i / 16 / (T::ROWS * T::COLUMNS) * 8 + i % 8;
      const unsigned h = step.p0 + position / T::COLUMNS, w = position % T::COLUMNS;
      copy_async<16>(to + position * T::POSITION + (2 * (c / 8) + half) * WGMMA_TILE + c % 8 * 4,
                     h < H ? x + (((c0 + c) * H + h) * T::COLUMNS + w) * N + step.n0 + 4 * half : x, h < H ? 16 : 0);
    }
    copy_rows(to + T::INPUTS, gradient, step);
    if (T::EPILOGUE == RELU) copy_rows(to + T::INPUTS + T::GRADIENT, static_cast<const float*>(saved), step);
    if (T::EPILOGUE == POOL) {
      unsigned char* codes = reinterpret_cast<unsigned char*>(to + T::INPUTS + T::GRADIENT);
      const unsigned char* code = static_cast<const unsigned char*>(saved);
#pragma unroll 1
      for (unsigned i = opaque(threadIdx.x); i < T::BLOCK_FILTERS * T::LINE; i += T::THREADS) {
        const unsigned column = i % T::LINE, k = i / T::LINE;
        const unsigned at = ((k0 + k) * ((P + 1) / 2) + step.p0 / 2) * T::LINE + column;
        copy_async<8>(codes + k * T::CODES + column * IMAGES, code + at * N + step.n0);
      }
    }
    commit_async();
  }

  // The rows of a step of gradient, or of y.
  __device__ __forceinline__ void copy_rows(float* to, const float* from, Step step) const {
    constexpr unsigned ROWS = 2 / T::PACE;
    const unsigned rows = (P + T::PACE - 1) / T::PACE;
#pragma unroll 1
    for (unsigned i = opaque(threadIdx.x); i < T::BLOCK_FILTERS * ROWS * T::LINE * 2; i += T::THREADS) {
      const unsigned half = i % 2, position = i / 2 % (ROWS * T::LINE), k = i / 2 / (ROWS * T::LINE);
      const unsigned row = step.p0 / T::PACE + position / T::LINE, column = position % T::LINE;
      const bool inside = row < rows;
      copy_async<16>(to + k * T::FILTER + position * IMAGES + 4 * half,
                     inside ? from + (((k0 + k) * rows + row) * T::LINE + column) * N + step.n0 + 4 * half : from,
                     inside ? 16 : 0);
    }
  }
};

// dz of a lane: filters g and g + 8 of its warp's, images t and t + 4.
struct Gradient {
  const float* gradient;
  const float* y;             // by RELU
  const unsigned char* code;  // by POOL

  __device__ __forceinline__ void load(Fragment<4, TF32>& a, unsigned row, unsigned q) const {
    const unsigned at = (row / T::PACE * T::LINE + q / T::PACE) * IMAGES, bit = 1u << (row % 2 * 2 + q % 2);
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned filter = 8 * (i % 2), image = 4 * (i / 2);
      float dz = gradient[filter * T::FILTER + at + image];
      if (T::EPILOGUE == POOL && !(code[filter * T::CODES + at + image] & bit)) dz = 0;
      if (T::EPILOGUE == RELU && y[filter * T::FILTER + at + image] <= 0) dz = 0;
      a.set(i, dz);
    }
  }
};

// Who a lane is in its block: its first filter, its warpgroup's first channel and row of dz, its image.
struct Lane {
  unsigned filter, channel, split, t;
};

__device__ __forceinline__ Lane lane() {
  const unsigned thread = opaque(threadIdx.x), warpgroup = thread / 128;
  return {64 * (warpgroup / T::SPLITS % T::FILTER_GROUPS) + thread / 32 % 4 * 16 + thread % 32 / 4,
          T::CHANNELS * (warpgroup / T::SPLITS / T::FILTER_GROUPS), warpgroup % T::SPLITS, thread % 4};
}

extern "C" __global__ void __launch_bounds__(T::THREADS, 1)
    conv2d_backward_weights_wgmma(const float* __restrict__ x, const float* __restrict__ gradient,
                                  const void* __restrict__ saved, float* __restrict__ partial, unsigned C, unsigned H,
                                  unsigned N, unsigned K, unsigned steps, unsigned steps_a_sum) {
  extern __shared__ __align__(128) float stages[];
  const unsigned P = H - T::R + 1, c0 = blockIdx.x * T::BLOCK_CHANNELS, k0 = blockIdx.y * T::BLOCK_FILTERS;
  const Layer layer = {x, gradient, saved, H, N, P, c0, k0};
  const unsigned part = blockIdx.z, all = (P + 1) / 2 * (N / IMAGES), first = part * steps;
  auto is_there = [&](unsigned step) { return step - first < opaque(steps) && step < all; };

  float sums[T::R * T::S][T::CHANNELS / 2];
  auto clear = [&]() {
#pragma unroll
    for (unsigned tap = 0; tap < T::R * T::S; ++tap)
#pragma unroll
      for (unsigned i = 0; i < T::CHANNELS / 2; ++i) sums[tap][i] = 0;
  };
  // To the part's place, or added to what is there.
  auto store = [&](bool is_first) {
#pragma unroll
    for (unsigned i = 0; i < T::CHANNELS / 2; ++i) {
      const Lane me = lane();
      const unsigned c = c0 + me.channel + i / 4 * 8 + 2 * me.t + i % 2, k = k0 + me.filter + i / 2 % 2 * 8;
      float* at = partial + (((part * T::SPLITS + me.split) * C + c) * T::R * T::S) * K + k;
#pragma unroll
      for (unsigned tap = 0; tap < T::R * T::S; ++tap, at += K) {
        if (!is_first) sums[tap][i] += *at;
        *at = sums[tap][i];
      }
    }
  };

  clear();
  auto copy = [&](unsigned step) {
    if (is_there(step))
      layer.copy(stages + (step - first) % T::STAGES * T::STAGE, step_of(step, P));
    else
      commit_async();  // an empty group, so that the count of groups tells the stage
  };
#pragma unroll
  for (unsigned stage = 0; stage + 1 < T::STAGES; ++stage) copy(first + stage);
#pragma unroll 1
  for (unsigned step = first; is_there(step); ++step) {
    copy(step + T::STAGES - 1);
    wait_async<T::STAGES - 1>();
    __syncthreads();
    float* const stage = stages + (step - first) % T::STAGES * T::STAGE;
#pragma unroll 1
    for (unsigned i = 4 * opaque(threadIdx.x); i < T::INPUTS; i += 4 * T::THREADS)
      store4(stage + i, rounded4(load4(stage + i)));
    fence_async();
    __syncthreads();

    const Lane me = lane();
    const float* at = stage + T::INPUTS + me.filter * T::FILTER + me.t;
    const Gradient dz = {
        at, at + T::GRADIENT,
        reinterpret_cast<const unsigned char*>(stage + T::INPUTS + T::GRADIENT) + me.filter * T::CODES + me.t};
    Fragment<4, TF32> a;
#pragma unroll
    for (unsigned row = me.split; row < 2; row += T::SPLITS) {
      if (step_of(step, P).p0 + row >= P) continue;
      Columns inputs = columns_at(stage + row * T::COLUMNS * T::POSITION + me.channel / 8 * 2 * WGMMA_TILE);
#pragma unroll 1
      for (unsigned q0 = 0; q0 < T::Q; q0 += 2) {
#pragma unroll
        for (unsigned column = 0; column < 2; ++column) {
          if (T::Q % 2 != 0 && q0 + column >= T::Q) continue;
          wgmma_wait<0>();  // meanwhile the other warpgroup multiplies
          dz.load(a, row, q0 + column);
          wgmma_fence();
#pragma unroll
          for (unsigned tap = 0; tap < T::R * T::S; ++tap)
            wgmma(sums[tap], a.rounded,
                  columns_after(inputs, (tap / T::S * T::COLUMNS + column + tap % T::S) * T::POSITION));
          wgmma_commit();
        }
        inputs = columns_after(inputs, 2 * T::POSITION);
      }
    }
    wgmma_wait<0>();
    const unsigned done = step + 1 - first;
    if (done % steps_a_sum == 0 || !is_there(step + 1)) {
      store(done <= steps_a_sum);
      clear();
    }
    __syncthreads();  // before the next copy overwrites this stage
  }
}
