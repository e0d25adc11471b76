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

#include "../include/float4.cuh"
#include "../include/mma.cuh"
#include "../include/wgmma.cuh"

constexpr unsigned DEPTH = 8;  // channels of a stage: the depth of a product

template <unsigned R_, unsigned S_, unsigned EPILOGUE_, unsigned OUTPUTS_, unsigned WINDOW_ROWS_,
          unsigned WINDOW_COLUMNS_, unsigned IMAGE_GROUPS_, unsigned STAGES_>
struct WgmmaTile {
  static constexpr unsigned R = R_, S = S_, EPILOGUE = EPILOGUE_, OUTPUTS = OUTPUTS_, WINDOW_ROWS = WINDOW_ROWS_,
                            WINDOW_COLUMNS = WINDOW_COLUMNS_, IMAGE_GROUPS = IMAGE_GROUPS_, STAGES = STAGES_;
  static constexpr unsigned WARPS = WINDOW_ROWS * WINDOW_COLUMNS * IMAGE_GROUPS, THREADS = 32 * WARPS;
  static constexpr unsigned IMAGES = 16 * IMAGE_GROUPS;
  static constexpr unsigned WEIGHTS = R * S * OUTPUTS * DEPTH;     // of a stage and plane
  static constexpr bool HAS_FP32X3 = OUTPUTS == 32 && WARPS <= 8;  // registers for three sets of sums
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
  unsigned part;         // of the outputs
  unsigned i0, j0, n0;   // first window and image of the block
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
  //
  // The tensor cores cut off the low bits of what they add. Over hundreds of products that is more than float32's error,
  // so that by FP32X3 each product is begun anew, and then added here, rounded.
  template <unsigned PRECISION, class Load>
  __device__ __forceinline__ void accumulate(Load load, Columns weights) {
    constexpr unsigned POSITIONS = (Tile::R + 1) * (Tile::S + 1);
    Fragment<4, PRECISION> patch[2];  // one is multiplied while the next is loaded
    WgmmaSums products[PRECISION == FP32X3 ? 2 : 1];
#pragma unroll
    for (unsigned position = 0; position < POSITIONS; ++position) {
      Fragment<4, PRECISION>& a = patch[position % 2];
      wgmma_wait<1>();  // for the products of the one before the last, which had these registers
      if constexpr (PRECISION == FP32X3)
        if (position >= 2) add(products[position % 2], position - 2);
      load(position / (Tile::S + 1), position % (Tile::S + 1), a);
      wgmma_fence();
#pragma unroll
      for (unsigned corner = 0; corner < 4; ++corner) {
        if (!has_tap(corner, position)) continue;
        const Columns w = columns_after(weights, tap(corner, position) * Tile::OUTPUTS * DEPTH);
        if constexpr (PRECISION == FP32X3) {  // the small ones first
          float (&product)[Tile::OUTPUTS / 2] = products[position % 2].at[corner];
          wgmma<false>(product, a.rest, w);
          wgmma(product, a.rounded, columns_after(w, Tile::WEIGHTS));
          wgmma(product, a.rounded, w);
        } else {
          wgmma(at[corner], a.rounded, w);
        }
      }
      wgmma_commit();
    }
    wgmma_wait<0>();
    if constexpr (PRECISION == FP32X3) {
      add(products[POSITIONS % 2], POSITIONS - 2);
      add(products[(POSITIONS - 1) % 2], POSITIONS - 1);
    }
  }

 private:
  // The products of a position of the patch.
  __device__ __forceinline__ void add(const WgmmaSums& products, unsigned position) {
#pragma unroll
    for (unsigned corner = 0; corner < 4; ++corner)
      if (has_tap(corner, position))
#pragma unroll
        for (unsigned i = 0; i < Tile::OUTPUTS / 2; ++i) at[corner][i] += products.at[corner][i];
  }

  // Whether a tap takes a position of the patch to a corner of the window, and which.
  static __device__ __forceinline__ constexpr bool has_tap(unsigned corner, unsigned position) {
    return position / (Tile::S + 1) - corner / 2 < Tile::R && position % (Tile::S + 1) - corner % 2 < Tile::S;
  }

  static __device__ __forceinline__ constexpr unsigned tap(unsigned corner, unsigned position) {
    return (position / (Tile::S + 1) - corner / 2) * Tile::S + position % (Tile::S + 1) - corner % 2;
  }
};
