// warp: augmentation; the two crops of each image of a batch, or at once the 16 patches of those crops.
//
//   (x, y) = matrix · (column, row, 1)
//   crops[b, crop, row, column, c] = min(max(m / 255 + shift[c], 0), 1),   m the bilinear mean of the four pixels about
//                                    (x, y) of images[index, …, c]
//
//   patches as viewpoints makes them of these crops, which are not stored
//
// Beyond its border an image goes on as its mirror image about the centres of the edge pixels. Positions are computed in
// float64, weights and pixels in float32, as on the CPU.
//
// Arrays     images (n, H, W, 3) uint8, H and W 2 to 32768, of any size together; crops (B, 2, T, T, 3) float32;
//            patches (3, S, S, 16·B), float32 or, rounded to even, bfloat16. What a batch needs stands in rings of slots:
//            indices (slots, B) int64, matrices (slots, B, 2, 2, 3) float64, shifts (slots, B, 3) float32; step (1,)
//            int64 says which, that at step mod slots.
// Trusted    0 <= index < n, which the host checks before it fills the staging buffer. No matrix leads out of its image.
// Threads    crops: one a value. patches: a block of 256 takes 32 pixels of one crop of 16 images; grid (pixels, images,
//            crops).
// NaN        in a shift passes; in a matrix it is position 0.
// Versions   one each: crops and viewpoints one after the other are the naive form of patches.

#include "include/staging.cuh"
#include "include/views.cuh"

// A position on an axis: between `pixel` and the next, whose weight is `weight`.
struct Place {
  unsigned pixel;
  float weight;
};

__device__ __forceinline__ Place place(double position, unsigned size) {
  const double last = size - 1, period = 2 * last;
  if (!(position >= 0 && position <= last)) {
    const double distance = fabs(position), rest = __fma_rn(-period, floor(distance / period), distance);
    position = fmax(0.0, fmin(rest, period - rest));
  }
  const unsigned pixel = min(static_cast<unsigned>(position), size - 2);
  return {pixel, static_cast<float>(position - pixel)};
}

struct WarpedCrops {
  const unsigned char* images;
  const long long* indices;  // of the slot, as all that follow
  const double* matrices;
  const float* shifts;
  unsigned H, W, T;

  struct Crop {
    const unsigned char* image;
    double xx, xy, x, yx, yy, y;  // the rows of the matrix
    const float* shift;
    unsigned H, W, T;

    // Value v = (row·T + column)·3 + c.
    __device__ __forceinline__ float operator()(unsigned v) const {
      const unsigned c = v % 3, column = v / 3 % T, row = v / 3 / T;
      const Place across = place(__fma_rn(xx, column, __fma_rn(xy, row, x)), W),
                  down = place(__fma_rn(yx, column, __fma_rn(yy, row, y)), H);
      const unsigned char* corner = image + (down.pixel * W + across.pixel) * 3 + c;
      const float upper = between(corner, across.weight), lower = between(corner + 3 * W, across.weight);
      const float value = fmaf(fmaf(down.weight, lower - upper, upper), static_cast<float>(1.0 / 255), shift[c]);
      return value < 0 ? 0.0f : value > 1 ? 1.0f : value;
    }

    static __device__ __forceinline__ float between(const unsigned char* left, float weight) {
      const float first = left[0], second = left[3];
      return fmaf(weight, second - first, first);
    }
  };

  __device__ __forceinline__ Crop operator()(unsigned b, unsigned crop) const {
    const unsigned char* image = images + static_cast<unsigned long long>(indices[b]) * (3 * H * W);
    const double* m = matrices + (b * 2 + crop) * 6;
    return {image, m[0], m[1], m[2], m[3], m[4], m[5], shifts + 3 * b, H, W, T};
  }
};

__device__ __forceinline__ WarpedCrops warped(const unsigned char* images, const long long* indices,
                                              const double* matrices, const float* shifts, const long long* step,
                                              unsigned slots, unsigned B, unsigned H, unsigned W, unsigned T) {
  const unsigned first = slot_of(step, slots) * B;
  return {images, indices + first, matrices + 12 * first, shifts + 3 * first, H, W, T};
}

extern "C" __global__ void warp_crops(const unsigned char* __restrict__ images, const long long* __restrict__ indices,
                                      const double* __restrict__ matrices, const float* __restrict__ shifts,
                                      const long long* __restrict__ step, float* __restrict__ crops, unsigned slots,
                                      unsigned B, unsigned H, unsigned W, unsigned T) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x, values = 3 * T * T;
  if (index >= 2 * B * values) return;
  const WarpedCrops crops_of = warped(images, indices, matrices, shifts, step, slots, B, H, W, T);
  crops[index] = crops_of(index / values / 2, index / values % 2)(index % values);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    warp_patches(const unsigned char* __restrict__ images, const long long* __restrict__ indices,
                 const double* __restrict__ matrices, const float* __restrict__ shifts,
                 const long long* __restrict__ step, float* __restrict__ patches, unsigned slots, unsigned B,
                 unsigned H, unsigned W, unsigned T, unsigned S) {
  write_views(patches, warped(images, indices, matrices, shifts, step, slots, B, H, W, T), B, T, S);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    warp_patches_bf16(const unsigned char* __restrict__ images, const long long* __restrict__ indices,
                      const double* __restrict__ matrices, const float* __restrict__ shifts,
                      const long long* __restrict__ step, unsigned short* __restrict__ patches, unsigned slots,
                      unsigned B, unsigned H, unsigned W, unsigned T, unsigned S) {
  write_views(patches, warped(images, indices, matrices, shifts, step, slots, B, H, W, T), B, T, S);
}
