// bugs_wgmma: what the emulated device must find of warpgroup products. Each kernel is right where `correct` is 1, and has
// its bug where it is 0.
//
//   y = a b
//
// Arrays     x: a (64, 8), then b (8, 16) as wgmma.cuh has it in shared memory; y (64, 16). float32.
// Threads    128 a block, one block unless said otherwise.

#include "include/async_copy.cuh"
#include "include/mma.cuh"
#include "include/wgmma.cuh"

constexpr unsigned A = 64 * 8, B = 8 * 16;  // floats
constexpr unsigned MANY = 72;

__device__ __forceinline__ unsigned row(unsigned half) {
  return threadIdx.x / 32 % 4 * 16 + half * 8 + threadIdx.x % 32 / 4;
}

__device__ __forceinline__ void load(unsigned (&a)[4], const float* x) {
#pragma unroll
  for (unsigned i = 0; i < 4; i++) a[i] = to_tf32(x[row(i % 2) * 8 + i / 2 * 4 + threadIdx.x % 4]);
}

__device__ __forceinline__ void clear(float (&d)[8]) {
#pragma unroll
  for (unsigned i = 0; i < 8; i++) d[i] = 0;
}

__device__ __forceinline__ void store(float* y, const float (&d)[8]) {
#pragma unroll
  for (unsigned i = 0; i < 8; i++) y[row(i / 2 % 2) * 16 + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2] = d[i];
}

// By the first 128 threads of a block.
__device__ __forceinline__ void share(float* b, const float* x) {
  if (threadIdx.x < B) b[threadIdx.x] = x[A + threadIdx.x];
  fence_async();
  __syncthreads();
}

__device__ __forceinline__ void multiply(float* y, const float* x, const float* b) {
  unsigned a[4];
  float d[8];
  load(a, x);
  wgmma_fence();
  wgmma<false>(d, a, columns_at(b));
  wgmma_commit();
  wgmma_wait<0>();
  store(y, d);
}

// The result is read before it is waited for.
extern "C" __global__ void bugs_wgmma_missing_wait(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  unsigned a[4];
  float d[8];
  share(b, x);
  load(a, x);
  clear(d);
  wgmma_fence();
  wgmma(d, a, columns_at(b));
  wgmma_commit();
  if (correct) wgmma_wait<0>();
  store(y, d);
  wgmma_wait<0>();
}

// One group may still be in flight: the last of many products, more than are in flight at once, which need no fence between
// them.
extern "C" __global__ void bugs_wgmma_short_wait(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  unsigned a[4];
  float d[8];
  share(b, x);
  load(a, x);
  clear(d);
  wgmma_fence();
  for (unsigned i = 0; i < MANY; i++) {
    wgmma(d, a, columns_at(b));
    wgmma_commit();
    wgmma_wait<1>();
  }
  if (correct) wgmma_wait<0>();
  for (unsigned i = 0; i < 8; i++) d[i] /= MANY;
  store(y, d);
}

// A wait covers closed groups alone.
extern "C" __global__ void bugs_wgmma_missing_commit(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  unsigned a[4];
  float d[8];
  share(b, x);
  load(a, x);
  wgmma_fence();
  wgmma<false>(d, a, columns_at(b));
  if (correct) wgmma_commit();
  wgmma_wait<0>();
  store(y, d);
}

extern "C" __global__ void bugs_wgmma_accumulator_in_flight(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  unsigned a[4];
  float d[8];
  share(b, x);
  load(a, x);
  clear(d);
  wgmma_fence();
  wgmma(d, a, columns_at(b));
  wgmma_commit();
  if (correct) wgmma_wait<0>();
  d[3] += 0;
  wgmma_wait<0>();
  store(y, d);
}

extern "C" __global__ void bugs_wgmma_operand_in_flight(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  unsigned a[4];
  float d[8], of_zeros[8];
  share(b, x);
  load(a, x);
  wgmma_fence();
  wgmma<false>(d, a, columns_at(b));
  wgmma_commit();
  if (correct) wgmma_wait<0>();
  for (unsigned i = 0; i < 4; i++) a[i] = 0;
  wgmma_fence();
  wgmma<false>(of_zeros, a, columns_at(b));
  wgmma_commit();
  wgmma_wait<0>();
  for (unsigned i = 0; i < 8; i++) d[i] += of_zeros[i];
  store(y, d);
}

// b makes way for what comes next.
extern "C" __global__ void bugs_wgmma_shared_in_flight(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  unsigned a[4];
  float d[8];
  share(b, x);
  load(a, x);
  wgmma_fence();
  wgmma<false>(d, a, columns_at(b));
  wgmma_commit();
  if (correct) {
    wgmma_wait<0>();
    __syncthreads();
  }
  b[threadIdx.x] = 0;
  wgmma_wait<0>();
  store(y, d);
}

extern "C" __global__ void bugs_wgmma_missing_fence(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  unsigned a[4];
  float d[8];
  share(b, x);
  load(a, x);
  if (correct) wgmma_fence();
  wgmma<false>(d, a, columns_at(b));
  wgmma_commit();
  wgmma_wait<0>();
  store(y, d);
}

// The second half of a's columns, which are those of b's rows, is loaded into the same registers.
extern "C" __global__ void bugs_wgmma_missing_second_fence(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  unsigned a[4];
  float d[8];
  share(b, x);
  clear(d);
  for (unsigned half = 0; half < 2; half++) {
    load(a, x);
    for (unsigned i = 0; i < 4; i++)
      if (i / 2 != half) a[i] = 0;
    if (correct || half == 0) wgmma_fence();
    wgmma(d, a, columns_at(b));
    wgmma_commit();
    wgmma_wait<0>();
  }
  store(y, d);
}

extern "C" __global__ void bugs_wgmma_accumulator_after_fence(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  unsigned a[4];
  float d[8];
  share(b, x);
  load(a, x);
  if (correct) clear(d);
  wgmma_fence();
  if (!correct) clear(d);
  wgmma(d, a, columns_at(b));
  wgmma_commit();
  wgmma_wait<0>();
  store(y, d);
}

extern "C" __global__ void bugs_wgmma_stores_without_fence(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  b[threadIdx.x] = x[A + threadIdx.x];
  if (correct) fence_async();
  __syncthreads();
  multiply(y, x, b);
}

extern "C" __global__ void bugs_wgmma_copies_without_fence(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  copy_async<4>(&b[threadIdx.x], &x[A + threadIdx.x]);
  commit_async();
  wait_async<0>();
  if (correct) fence_async();
  __syncthreads();
  multiply(y, x, b);
}

// One thread cannot fence for all.
extern "C" __global__ void bugs_wgmma_fence_of_one_thread(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  copy_async<4>(&b[threadIdx.x], &x[A + threadIdx.x]);
  commit_async();
  wait_async<0>();
  if (correct || threadIdx.x == 0) fence_async();
  __syncthreads();
  multiply(y, x, b);
}

// The copies have not arrived yet when the fence is executed.
extern "C" __global__ void bugs_wgmma_fence_before_copies(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  copy_async<4>(&b[threadIdx.x], &x[A + threadIdx.x]);
  commit_async();
  if (!correct) fence_async();
  wait_async<0>();
  if (correct) fence_async();
  __syncthreads();
  multiply(y, x, b);
}

extern "C" __global__ void bugs_wgmma_missing_barrier(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  b[threadIdx.x] = x[A + threadIdx.x];
  fence_async();
  if (correct) __syncthreads();
  multiply(y, x, b);
}

extern "C" __global__ void bugs_wgmma_divergent_lanes(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  unsigned a[4];
  float d[8];
  share(b, x);
  load(a, x);
  wgmma_fence();
  if (correct || threadIdx.x % 32 < 16)
    wgmma<false>(d, a, columns_at(b));
  else
    wgmma<false>(d, a, columns_at(b));
  wgmma_commit();
  wgmma_wait<0>();
  store(y, d);
}

extern "C" __global__ void bugs_wgmma_divergent_warps(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  share(b, x);
  if (correct || threadIdx.x < 64) multiply(y, x, b);
}

extern "C" __global__ void bugs_wgmma_different_operands(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[2 * B];
  b[B + threadIdx.x] = x[A + threadIdx.x];
  share(b, x);
  multiply(y, x, correct ? b : b + threadIdx.x / 64 * B);
}

// A block of 192: its last two warps are no warpgroup.
extern "C" __global__ void bugs_wgmma_two_warps(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  share(b, x);
  if (correct ? threadIdx.x < 128 : threadIdx.x >= 128) multiply(y, x, b);
}

// A block of 256: four warps, but not those of a warpgroup.
extern "C" __global__ void bugs_wgmma_from_warp_two(const float* x, float* y, int correct) {
  __shared__ __align__(128) float b[B];
  share(b, x);
  if (correct ? threadIdx.x < 128 : threadIdx.x - 64 < 128) multiply(y, x, b);
}
