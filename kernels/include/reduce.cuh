// Sums in a fixed order, so that the same numbers give the same bits; no chain of additions is longer than 4,096.
//
//   sum_in_runs(first, end, step, add)              sum = add(sum, i), i from first by step, below end; one thread
//   warp_sum(value)                                 over the 32 threads of a warp, all of which call; each gets it
//   block_sum<THREADS>(value, scratch)              over a block of THREADS threads along x, all of which call once;
//                                                   the first warp gets it. scratch: THREADS / 32 floats, shared
//   sum_of_parts(partial, parts, distance, index)   over the parts of a long sum: arrays `distance` elements apart
#pragma once

constexpr unsigned LONGEST_CHAIN = 4096;

template <typename Add>
__device__ __forceinline__ float sum_in_runs(unsigned first, unsigned end, unsigned step, Add add) {
  float sum = 0;
  for (unsigned i = first; i < end;) {
    float run = 0;
    for (unsigned count = 0; count < LONGEST_CHAIN && i < end; ++count, i += step) run = add(run, i);
    sum += run;
  }
  return sum;
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

template <unsigned THREADS>
__device__ __forceinline__ float block_sum(float value, float* scratch) {
  static_assert(THREADS % 32 == 0 && THREADS <= 1024, "whole warps, at most 32");
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  value = warp_sum(value);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  if (warp == 0) value = warp_sum(lane < THREADS / 32 ? scratch[lane] : 0.0f);
  return value;
}

__device__ __forceinline__ float sum_of_parts(const float* partial, unsigned parts, unsigned distance, unsigned index) {
  float sum = 0;
#pragma unroll 4
  for (unsigned part = 0; part < parts; ++part) sum += partial[part * distance + index];
  return sum;
}
