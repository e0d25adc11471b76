// viewpoints: the 16 patches of an image from its two crops, and the gradient of the crops from that of the patches.
//
//   view = 8·crop + 4·flip + quarter; its patch is the first S×S pixels of rot90(flip ? mirrored crop : crop, quarter)
//
//   forward    patches[c, i, j, view·B + b] = the pixel of crops[b] that stands at (i, j) of that view
//   backward   dcrops[b, crop, row, column, c] = Σ of the gradient over the views that show the pixel, 8 at most
//
// Arrays     crops (B, 2, T, T, 3), float32, or uint8, whose values are multiplied by 1/255; dcrops float32;
//            patches (3, S, S, 16·B), float32 or, rounded to even, bfloat16; their gradient float32.
// Threads    naive: one a value of the output, along its innermost extent.
//            tiled: a block of 256 takes 32 pixels of one crop of 16 images; grid (pixels, images, crops).
// Exact      forward copies; backward adds in the order of the views.
// Versions   naive   one of its two sides jumps from image to image: a 32-byte sector for 4 bytes
//            tiled   a transposition in shared memory (include/views.cuh): rows of 96 values on the side of the crops,
//                    runs of 16 images on the side of the patches; a crop is read (written) once

#include "include/views.cuh"

__device__ __forceinline__ float intensity(float value) { return value; }
__device__ __forceinline__ float intensity(unsigned char value) { return value * static_cast<float>(1.0 / 255); }

template <typename Value>
struct StoredCrops {
  const Value* crops;
  unsigned values;  // of a crop

  struct Crop {
    const Value* first;

    __device__ __forceinline__ float operator()(unsigned v) const { return intensity(first[v]); }
  };

  __device__ __forceinline__ Crop operator()(unsigned b, unsigned crop) const {
    return {crops + (b * 2 + crop) * values};
  }
};

template <typename Value>
__device__ __forceinline__ StoredCrops<Value> stored(const Value* crops, unsigned T) {
  return {crops, 3 * T * T};
}

// The gradient of value `v` = (row·T + column)·3 + c of one crop of image b.
__device__ __forceinline__ float sum_of_views(const float* gradient, unsigned crop, unsigned v, unsigned b, unsigned B,
                                              unsigned T, unsigned S) {
  const Pixel pixel = {v / 3 / T, v / 3 % T};
  float sum = 0;
#pragma unroll
  for (unsigned view = 0; view < 8; ++view) {
    const Pixel at = in_patch(view, pixel, T - 1);
    if (at.row < S && at.column < S) sum += gradient[patch_offset(v % 3, at, 8 * crop + view, b, B, S)];
  }
  return sum;
}

template <typename Value>
__device__ __forceinline__ void forward_naive(const Value* crops, float* patches, unsigned B, unsigned T, unsigned S) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= 3 * S * S * 16 * B) return;
  const unsigned b = index % B, view = index / B % 16, ij = index / B / 16;
  const Pixel at = in_crop(view, {ij / S % S, ij % S}, T - 1);
  const unsigned c = ij / S / S;
  patches[index] = intensity(crops[(((b * 2 + view / 8) * T + at.row) * T + at.column) * 3 + c]);
}

extern "C" __global__ void viewpoints_forward_naive(const float* __restrict__ crops, float* __restrict__ patches,
                                                    unsigned B, unsigned T, unsigned S) {
  forward_naive(crops, patches, B, T, S);
}

extern "C" __global__ void viewpoints_forward_naive_uint8(const unsigned char* __restrict__ crops,
                                                          float* __restrict__ patches, unsigned B, unsigned T,
                                                          unsigned S) {
  forward_naive(crops, patches, B, T, S);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    viewpoints_forward_tiled(const float* __restrict__ crops, float* __restrict__ patches, unsigned B, unsigned T,
                             unsigned S) {
  write_views(patches, stored(crops, T), B, T, S);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    viewpoints_forward_tiled_uint8(const unsigned char* __restrict__ crops, float* __restrict__ patches, unsigned B,
                                   unsigned T, unsigned S) {
  write_views(patches, stored(crops, T), B, T, S);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    viewpoints_forward_tiled_bf16(const float* __restrict__ crops, unsigned short* __restrict__ patches, unsigned B,
                                  unsigned T, unsigned S) {
  write_views(patches, stored(crops, T), B, T, S);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    viewpoints_forward_tiled_uint8_bf16(const unsigned char* __restrict__ crops, unsigned short* __restrict__ patches,
                                        unsigned B, unsigned T, unsigned S) {
  write_views(patches, stored(crops, T), B, T, S);
}

extern "C" __global__ void viewpoints_backward_naive(const float* __restrict__ gradient, float* __restrict__ dcrops,
                                                     unsigned B, unsigned T, unsigned S) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x, values = 3 * T * T;
  if (index >= B * 2 * values) return;
  dcrops[index] = sum_of_views(gradient, index / values % 2, index % values, index / values / 2, B, T, S);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    viewpoints_backward_tiled(const float* __restrict__ gradient, float* __restrict__ dcrops, unsigned B, unsigned T,
                              unsigned S) {
  __shared__ float tile[IMAGES][STRIDE];
  const unsigned first_value = blockIdx.x * VALUES, first_image = blockIdx.y * IMAGES, crop = blockIdx.z;
  const unsigned values = 3 * T * T;
  for (unsigned k = threadIdx.x; k < IMAGES * VALUES; k += THREADS) {
    const unsigned v = first_value + k / IMAGES, b = first_image + k % IMAGES;
    if (v < values && b < B) tile[k % IMAGES][k / IMAGES] = sum_of_views(gradient, crop, v, b, B, T, S);
  }
  __syncthreads();
  for (unsigned k = threadIdx.x; k < IMAGES * VALUES; k += THREADS) {
    const unsigned v = first_value + k % VALUES, b = first_image + k / VALUES;
    if (v < values && b < B) dcrops[(b * 2 + crop) * values + v] = tile[k / VALUES][k % VALUES];
  }
}
