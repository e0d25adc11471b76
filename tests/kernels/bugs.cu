// bugs: what the emulated device must find. Each kernel is right where `correct` is 1, and has its bug where it is 0.
//
// Arrays     x and y of 64 float32 unless said otherwise.
// Threads    64 a block, one block unless said otherwise.

#include "include/async_copy.cuh"

constexpr unsigned THREADS = 64;

__device__ __forceinline__ unsigned opposite(unsigned thread) { return THREADS - 1 - thread; }

// Whoever runs first reads what is not there yet.
extern "C" __global__ void bugs_missing_barrier(const float* x, float* y, int correct) {
  __shared__ float tile[THREADS];
  tile[threadIdx.x] = x[threadIdx.x];
  if (correct) __syncthreads();
  y[threadIdx.x] = tile[opposite(threadIdx.x)];
}

// The second round overwrites what a slow thread still reads.
extern "C" __global__ void bugs_missing_second_barrier(const float* x, float* y, int correct) {
  __shared__ float tile[THREADS];
  float sum = 0;
  for (unsigned round = 0; round < 2; round++) {
    tile[threadIdx.x] = x[threadIdx.x] + round;
    __syncthreads();
    sum += tile[opposite(threadIdx.x)];
    if (correct) __syncthreads();
  }
  y[threadIdx.x] = sum;
}

// A warp whose lanes read each other's values without __syncwarp.
extern "C" __global__ void bugs_missing_syncwarp(const float* x, float* y, int correct) {
  __shared__ float tile[THREADS];
  tile[threadIdx.x] = x[threadIdx.x];
  if (correct) __syncwarp();
  y[threadIdx.x] = tile[threadIdx.x ^ 31];
}

extern "C" __global__ void bugs_missing_wait(const float* x, float* y, int correct) {
  __shared__ float tile[THREADS];
  copy_async<4>(&tile[threadIdx.x], &x[threadIdx.x]);
  commit_async();
  if (correct) wait_async<0>();
  __syncthreads();
  y[threadIdx.x] = tile[opposite(threadIdx.x)];
}

extern "C" __global__ void bugs_unset_shared_memory(const float* x, float* y, int correct) {
  __shared__ float tile[THREADS + 1];
  extern __shared__ float more[];
  tile[threadIdx.x] = more[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[opposite(threadIdx.x) + (correct ? 0 : 1)] + more[correct ? 0 : THREADS];
}

extern "C" __global__ void bugs_global_index(const float* x, float* y, int correct) {
  y[threadIdx.x] = x[threadIdx.x + (correct ? 0 : 1)];
}

// The reference hides the array's bounds.
extern "C" __global__ void bugs_static_shared_index(const float* x, float* y, int correct) {
  __shared__ float tile[THREADS];
  float* begin = tile;
  begin[threadIdx.x + (correct ? 0 : 1)] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[threadIdx.x];
}

// One too far in a row is inside the array.
extern "C" __global__ void bugs_shared_row_index(const float* x, float* y, int correct) {
  __shared__ float tile[8][8];
  const unsigned row = threadIdx.x / 8, column = threadIdx.x % 8;
  tile[row][column] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = row < 7 ? tile[row][column + (correct ? 0 : 1)] : 0;
}

extern "C" __global__ void bugs_dynamic_shared_index(const float* x, float* y, int correct) {
  extern __shared__ float tile[];
  tile[threadIdx.x + (correct ? 0 : 1)] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void bugs_local_index(const float* x, float* y, int correct) {
  float part[8];
  for (unsigned i = 0; i < 8; i++) part[i + (correct ? 0 : 1)] = x[i];
  float sum = 0;
  for (unsigned i = 0; i < 8; i++) sum += part[(i + threadIdx.x) % 8];
  y[threadIdx.x] = sum;
}

extern "C" __global__ void bugs_misaligned_vector(const float* x, float* y, int correct) {
  const float4 v = *reinterpret_cast<const float4*>(x + threadIdx.x % 4 * (correct ? 4 : 1));
  y[threadIdx.x] = v.x + v.y + v.z + v.w;
}

// Without __align__ the tile may begin at any multiple of 4 bytes.
extern "C" __global__ void bugs_unaligned_tile(const float* x, float* y, int correct) {
  __shared__ __align__(16) float aligned[THREADS];
  __shared__ float unaligned[THREADS];
  float* tile = correct ? aligned : unaligned;
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  const float4 v = *reinterpret_cast<const float4*>(tile + threadIdx.x / 4 * 4);
  y[threadIdx.x] = v.x + v.y + v.z + v.w;
}

// Two blocks of 64.
extern "C" __global__ void bugs_race_between_blocks(const float* x, float* y, int correct) {
  if (threadIdx.x == 0) y[correct ? blockIdx.x : 0] = x[blockIdx.x];
}

// Right in every order of the threads, as none is interrupted; a GPU loses most of the additions.
extern "C" __global__ void bugs_lost_additions(const float* x, float* y, int correct) {
  if (correct)
    atomicAdd(&y[0], x[threadIdx.x]);
  else
    y[0] += x[threadIdx.x];
}

extern "C" __global__ void bugs_divergent_barrier(const float* x, float* y, int correct) {
  if (correct || threadIdx.x < 48) __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void bugs_two_barriers(const float* x, float* y, int correct) {
  if (correct || threadIdx.x < 48)
    __syncthreads();
  else
    __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void bugs_wrong_mask(const float* x, float* y, int correct) {
  if (threadIdx.x % 32 < 16) y[threadIdx.x] = __shfl_xor_sync(correct ? 0x0000ffff : 0x0000fffe, x[threadIdx.x], 1);
}

extern "C" __global__ void bugs_ended_lanes(const float* x, float* y, int correct) {
  if (!correct && threadIdx.x % 32 == 5) return;
  y[threadIdx.x] = __shfl_xor_sync(0xffffffff, x[threadIdx.x], 1);
}

extern "C" __global__ void bugs_lane_outside_mask(const float* x, float* y, int correct) {
  if (threadIdx.x % 32 < 16) y[threadIdx.x] = __shfl_xor_sync(0x0000ffff, x[threadIdx.x], correct ? 8 : 16);
}

extern "C" __global__ void bugs_trap(const float* x, float* y, int correct) {
  if (!correct && threadIdx.x == 7) __trap();
  y[threadIdx.x] = x[threadIdx.x];
}
