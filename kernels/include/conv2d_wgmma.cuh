// What conv2d_forward_wgmma and conv2d_backward_data_wgmma share: a sum over taps and over channels, eight at a time, for
// the 2×2 windows of a result, by warpgroup products.
//
// A warp has one window × 16 images × OUTPUTS channels of the result. Each position of its patch, (R + 1) × (S + 1), is
// loaded once, as images × 8 channels, and multiplied by the weights of each tap that takes it to one of the window's
// four sums. Weights lie in shared memory, packed in the order in which blocks read them:
//
//   (depth / 8, outputs / OUTPUTS, PLANES, R, S, OUTPUTS / 8, 2 tiles of 4 of the depth, 8 outputs, 4 of the depth)
//
// Plane 0 is the weight rounded to tf32, plane 1 (fp32x3 alone) what that left.
#pragma once

#include "include/float4.cuh"
#include "include/mma.cuh"
#include "include/wgmma.cuh"

constexpr unsigned DEPTH = 8;  // channels of a stage: the depth of a product

template <unsigned R_, unsigned S_, unsigned FORM_, unsigned OUTPUTS_, unsigned WINDOW_ROWS_, unsigned WINDOW_COLUMNS_,
          unsigned IMAGE_GROUPS_, unsigned STAGES_>
struct WgmmaTile {
  static constexpr unsigned R = R_, S = S_, FORM = FORM_, OUTPUTS = OUTPUTS_, WINDOW_ROWS = WINDOW_ROWS_,
                            WINDOW_COLUMNS = WINDOW_COLUMNS_, IMAGE_GROUPS = IMAGE_GROUPS_, STAGES = STAGES_;
  static constexpr unsigned WARPS = WINDOW_ROWS * WINDOW_COLUMNS * IMAGE_GROUPS, THREADS = 32 * WARPS;
  static constexpr unsigned IMAGES = 16 * IMAGE_GROUPS;
  static constexpr unsigned WEIGHTS = R * S * OUTPUTS * DEPTH;  // of a stage and plane
  static_assert(WARPS % 4 == 0, "a warpgroup is four warps");
};

// Which weight a packed number is.
struct PackedPlace {
  unsigned plane, tap, output, depth;
};

template <class Tile>
__device__ __forceinline__ PackedPlace packed_place(unsigned index, unsigned planes, unsigned outputs) {
  const unsigned row = index / (DEPTH * Tile::OUTPUTS), stage = row / (Tile::R * Tile::S * planes);
  const unsigned parts = outputs / Tile::OUTPUTS;
  return {row / (Tile::R * Tile::S) % planes, row % (Tile::R * Tile::S),
          stage % parts * Tile::OUTPUTS + index / 64 % (Tile::OUTPUTS / 8) * 8 + index / 4 % 8,
          stage / parts * DEPTH + index / 32 % 2 * 4 + index % 4};
}

__device__ __forceinline__ float packed_value(float weight, unsigned plane) {
  const float rounded = __uint_as_float(to_tf32(weight));
  return plane == 0 ? rounded : __uint_as_float(to_tf32(weight - rounded));
}

// What a block and a thread of it have, by a grid of images innermost, then windows, then outputs.
template <class Tile>
struct WgmmaThread {
  unsigned part;       // of the outputs
  unsigned i0, j0, n0;  // first window and image of the block
  unsigned row, column;  // of the warp's window in the block
  unsigned g, t;         // of the lane: its images are 2g and 2g + 1 of the warp's, its outputs 2t and 2t + 1 of eight
  unsigned image;        // its first in the block

  __device__ __forceinline__ WgmmaThread(unsigned rows, unsigned columns, unsigned N) {
    const unsigned groups = (N + Tile::IMAGES - 1) / Tile::IMAGES, warp = threadIdx.x / 32;
    const unsigned across = (columns + Tile::WINDOW_COLUMNS - 1) / Tile::WINDOW_COLUMNS;
    const unsigned down = (rows + Tile::WINDOW_ROWS - 1) / Tile::WINDOW_ROWS;
    n0 = blockIdx.x % groups * Tile::IMAGES;
    j0 = blockIdx.x / groups % across * Tile::WINDOW_COLUMNS;
    i0 = blockIdx.x / groups / across % down * Tile::WINDOW_ROWS;
    part = blockIdx.x / groups / across / down;
    row = warp / Tile::IMAGE_GROUPS / Tile::WINDOW_COLUMNS;
    column = warp / Tile::IMAGE_GROUPS % Tile::WINDOW_COLUMNS;
    g = threadIdx.x % 32 / 4;
    t = threadIdx.x % 4;
    image = 16 * (warp % Tile::IMAGE_GROUPS) + 2 * g;
  }

  // Of the lane's pair-th output.
  __device__ __forceinline__ unsigned output(unsigned pair) const {
    return part * Tile::OUTPUTS + pair / 2 * 8 + 2 * t + pair % 2;
  }
};

// The four sums of a window (bit 1: row, bit 0: column) as a lane has them.
template <class Tile>
struct WgmmaSums {
  float at[4][Tile::OUTPUTS / 2];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (unsigned corner = 0; corner < 4; ++corner)
#pragma unroll
      for (unsigned i = 0; i < Tile::OUTPUTS / 2; ++i) at[corner][i] = 0;
  }

  // Of the lane's pair-th output, for both of its images.
  __device__ __forceinline__ float2 sum(unsigned corner, unsigned pair) const {
    const unsigned i = pair / 2 * 4 + pair % 2;  // rows g and g + 8 of a product are images 2g and 2g + 1
    return make_float2(at[corner][i], at[corner][i + 2]);
  }

  // Adds one stage. `load(row, column, a)` loads a position of the warp's patch as an operand.
  template <unsigned PRECISION, class Load>
  __device__ __forceinline__ void accumulate(Load load, Columns weights) {
    Fragment<4, PRECISION> patch[2];  // one is multiplied while the next is loaded
#pragma unroll
    for (unsigned position = 0; position < (Tile::R + 1) * (Tile::S + 1); ++position) {
      const unsigned row = position / (Tile::S + 1), column = position % (Tile::S + 1);
      Fragment<4, PRECISION>& a = patch[position % 2];
      wgmma_wait<1>();  // for the products of the one before the last, which had these registers
      load(row, column, a);
      wgmma_fence();
#pragma unroll
      for (unsigned corner = 0; corner < 4; ++corner) {
        if (row < corner / 2 || column < corner % 2) continue;
        const unsigned r = row - corner / 2, s = column - corner % 2;
        if (r >= Tile::R || s >= Tile::S) continue;
        const Columns w = columns_after(weights, (r * Tile::S + s) * Tile::OUTPUTS * DEPTH);
        if constexpr (PRECISION == FP32X3) {  // the small ones first
          wgmma(at[corner], a.rest, w);
          wgmma(at[corner], a.rounded, columns_after(w, Tile::WEIGHTS));
        }
        wgmma(at[corner], a.rounded, w);
      }
      wgmma_commit();
    }
    wgmma_wait<0>();
  }
};
