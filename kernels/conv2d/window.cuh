// What the forward pass makes of a convolution's sums: ReLU, and the maximum of a 2×2 window with its code byte.
#pragma once

#include "epilogue.cuh"

// What becomes of the four sums of a window, for one filter and image.
struct Window {
  unsigned k, i, j, P, Q, N;  // filter, window, extents

  __device__ __forceinline__ bool has(unsigned position) const {
    return 2 * i + position / 2 < P && 2 * j + position % 2 < Q;
  }

  __device__ __forceinline__ unsigned sum_offset(unsigned position) const {
    return (k * P + 2 * i + position / 2) * Q + 2 * j + position % 2;
  }

  __device__ __forceinline__ unsigned pooled_offset() const { return (k * ((P + 1) / 2) + i) * ((Q + 1) / 2) + j; }

  // The maximum of the rectified values that the window has, NaN if one is.
  __device__ __forceinline__ float pooled(const float (&z)[4], unsigned char& code) const {
    float y = 0;
    code = 0;
#pragma unroll
    for (unsigned position = 0; position < 4; ++position)
      if (has(position) && (z[position] > y || z[position] != z[position])) y = z[position];
#pragma unroll
    for (unsigned position = 0; position < 4; ++position)
      if (has(position) && z[position] == y && y > 0) code |= 1 << position;
    return y;
  }
};

__device__ __forceinline__ float activated(float z, unsigned epilogue) { return epilogue != PLAIN && z < 0 ? 0.0f : z; }
