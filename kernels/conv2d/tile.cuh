// The inner product that conv2d_forward and conv2d_backward_data share: a block of 32 channels of the result × 32 images
// × two 2×2 windows of positions side by side; a thread has 4 channels × 4 images × the 4 positions of a window.
//
// A stage in shared memory holds, for one or a few channels of what is summed over, a patch of (R + 1) × (S + 3)
// positions × 32 images and R·S × 32 weights. Sliding along s, a thread reads two new columns and one vector of
// weights from shared memory for 64 multiply-adds; its columns are read once by all 8 threads of its images.
#pragma once

#include "../include/float4.cuh"

constexpr unsigned TILE_CHANNELS = 32, TILE_N = 32, WINDOWS = 2;
constexpr unsigned LANES = TILE_N / 4;                                    // threads along n
constexpr unsigned TILE_THREADS = LANES * (TILE_CHANNELS / 4) * WINDOWS;  // 128

__device__ __forceinline__ unsigned patch_height(unsigned R) { return R + 1; }
__device__ __forceinline__ unsigned patch_width(unsigned S) { return S + 2 * WINDOWS - 1; }

// Who a thread is in its block.
struct TileThread {
  unsigned n, channel, window;  // first image, first channel, window
};

__device__ __forceinline__ TileThread tile_thread() {
  const unsigned t = threadIdx.x;
  return {4 * (t % LANES), 4 * (t / LANES % (TILE_CHANNELS / 4)), t / (LANES * TILE_CHANNELS / 4)};
}

// Which rows and columns of the filters a sum takes.
struct Taps {
  unsigned r, r_end, s, s_end;
};

// Four channels × four positions (bit 1: row, bit 0: column) × four images.
struct WindowSums {
  float4 at[4][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int position = 0; position < 4; ++position) at[k][position] = make_float4(0, 0, 0, 0);
  }

  __device__ __forceinline__ void add(const WindowSums& other) {
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int position = 0; position < 4; ++position) multiply_add(at[k][position], 1.0f, other.at[k][position]);
  }

  // One channel of a stage: `patch` at the thread's window and images, `weights` at its channels.
  __device__ __forceinline__ void accumulate(const float* patch, const float* weights, unsigned S, Taps taps) {
    const unsigned row = patch_width(S) * TILE_N;
    for (unsigned r = taps.r; r < taps.r_end; ++r) {
      const float* column = patch + r * row + taps.s * TILE_N;
      const float* from = weights + (r * S + taps.s) * TILE_CHANNELS;
      float4 left[2] = {load4(column), load4(column + row)};
      for (unsigned s = taps.s; s < taps.s_end; ++s, from += TILE_CHANNELS) {
        column += TILE_N;
        const float4 right[2] = {load4(column), load4(column + row)};
        const float4 w = load4(from);
        const float weight[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
#pragma unroll
          for (int y = 0; y < 2; ++y) {
            multiply_add(at[k][2 * y], weight[k], left[y]);
            multiply_add(at[k][2 * y + 1], weight[k], right[y]);
          }
        }
        left[0] = right[0];
        left[1] = right[1];
      }
    }
  }
};
