// Four floats at once, or two: addresses are multiples of 16 bytes, or 8.
#pragma once

__device__ __forceinline__ float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }

__device__ __forceinline__ void store4(float* to, float4 value) { *reinterpret_cast<float4*>(to) = value; }

__device__ __forceinline__ float2 load2(const float* from) { return *reinterpret_cast<const float2*>(from); }

__device__ __forceinline__ void store2(float* to, float2 value) { *reinterpret_cast<float2*>(to) = value; }

__device__ __forceinline__ void multiply_add(float4& sum, float a, float4 b) {
  sum.x = fmaf(a, b.x, sum.x);
  sum.y = fmaf(a, b.y, sum.y);
  sum.z = fmaf(a, b.z, sum.z);
  sum.w = fmaf(a, b.w, sum.w);
}

// Store the first `count` of four; ALIGNED: all or none, for rows whose length is a multiple of 4.
template <bool ALIGNED>
__device__ __forceinline__ void store_up_to_4(float* to, float4 value, unsigned count) {
  if (ALIGNED) {
    if (count > 0) store4(to, value);
    return;
  }
  if (count > 0) to[0] = value.x;
  if (count > 1) to[1] = value.y;
  if (count > 2) to[2] = value.z;
  if (count > 3) to[3] = value.w;
}
