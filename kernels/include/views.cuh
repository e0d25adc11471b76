// The 16 viewpoints of an image: where a pixel of a crop stands in the patch of each view, and how patches are written.
//
//   view = 8·crop + 4·flip + quarter; its patch is the first S×S pixels of rot90(flip ? mirrored crop : crop, quarter)
//
//   write_views(patches, values_of, B, T, S)   to patches (3, S, S, 16·B), float32 or the bits of bfloat16, the values
//                                              (row·T + column)·3 + c of the crops: values_of(b, crop)(value) of each
//
// A block of 256 threads takes 96 values (32 pixels) of one crop of 16 images; grid (values, images, crops).
#pragma once

#include "mma.cuh"  // to_bf16

constexpr unsigned IMAGES = 16, PIXELS = 32, VALUES = 3 * PIXELS, THREADS = 256;
constexpr unsigned STRIDE = VALUES + 2;  // 16 images × 2 pixels fall into 32 different banks, × 2 values as well

struct Pixel {
  unsigned row, column;
};

// The pixel of a square that rot90, `quarters` times, brings to `at`; by 4 − quarters, where it brings `at` to.
__device__ __forceinline__ Pixel turn(Pixel at, unsigned quarters, unsigned last) {
  switch (quarters % 4) {
    case 1: return {at.column, last - at.row};
    case 2: return {last - at.row, last - at.column};
    case 3: return {last - at.column, at.row};
    default: return at;
  }
}

__device__ __forceinline__ Pixel mirror(Pixel at, unsigned view, unsigned last) {
  return {at.row, view % 8 < 4 ? at.column : last - at.column};
}

// Where a pixel of a patch stands in its crop.
__device__ __forceinline__ Pixel in_crop(unsigned view, Pixel at, unsigned last) {
  return mirror(turn(at, view, last), view, last);
}

// Where a pixel of a crop stands in the patch of a view: beyond its border if row or column is S or more.
__device__ __forceinline__ Pixel in_patch(unsigned view, Pixel at, unsigned last) {
  return turn(mirror(at, view, last), 4 - view % 4, last);
}

__device__ __forceinline__ unsigned patch_offset(unsigned c, Pixel at, unsigned view, unsigned b, unsigned B,
                                                 unsigned S) {
  return (((c * S + at.row) * S + at.column) * 16 + view) * B + b;
}

__device__ __forceinline__ void round_to(float& to, float value) { to = value; }
__device__ __forceinline__ void round_to(unsigned short& to, float value) { to = to_bf16(value); }

// A transposition in shared memory: a warp makes rows of 96 values of an image; runs of 16 images go to the patches.
template <typename Patch, typename ValuesOf>
__device__ __forceinline__ void write_views(Patch* patches, const ValuesOf& values_of, unsigned B, unsigned T,
                                            unsigned S) {
  __shared__ float tile[IMAGES][STRIDE];
  const unsigned first_pixel = blockIdx.x * PIXELS, first_image = blockIdx.y * IMAGES, crop = blockIdx.z;
  const unsigned images = min(IMAGES, B - first_image), pixels = min(PIXELS, T * T - first_pixel);
  for (unsigned image = threadIdx.x / 32; image < images; image += THREADS / 32) {
    const auto values = values_of(first_image + image, crop);
#pragma unroll
    for (unsigned i = threadIdx.x % 32; i < VALUES; i += 32) {
      if (i < 3 * pixels) tile[image][i] = values(3 * first_pixel + i);
    }
  }
  __syncthreads();
  for (unsigned k = threadIdx.x; k < IMAGES * PIXELS; k += THREADS) {
    const unsigned image = k % IMAGES, p = k / IMAGES;
    if (image >= images || p >= pixels) continue;
    const Pixel pixel = {(first_pixel + p) / T, (first_pixel + p) % T};
    Patch value[3];
    for (unsigned c = 0; c < 3; ++c) round_to(value[c], tile[image][3 * p + c]);
#pragma unroll
    for (unsigned view = 0; view < 8; ++view) {
      const Pixel at = in_patch(view, pixel, T - 1);
      if (at.row >= S || at.column >= S) continue;
      for (unsigned c = 0; c < 3; ++c)
        patches[patch_offset(c, at, 8 * crop + view, first_image + image, B, S)] = value[c];
    }
  }
}
