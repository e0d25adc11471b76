// Kernels whose requests to memory test_trace.py counts by hand. Blocks have one warp.

#include "include/async_copy.cuh"
#include "include/mma.cuh"

extern "C" __global__ void traced_strided(const float* x, float* y, unsigned first, unsigned stride) {
  y[threadIdx.x] = x[first + threadIdx.x * stride];
}

extern "C" __global__ void traced_vectors(const float4* x, float4* y, unsigned first) {
  y[threadIdx.x] = x[threadIdx.x + first];
}

extern "C" __global__ void traced_made(float* y) { reinterpret_cast<float2*>(y)[threadIdx.x] = make_float2(1, 2); }

extern "C" __global__ void traced_rows(const float* x, float* y, unsigned rows, unsigned width) {
  for (unsigned row = 0; row < rows; ++row) {
    y[32 * row + threadIdx.x] = x[width * row + threadIdx.x];
  }
}

// A tile of 32×32: rows are written, columns read.
template <unsigned WIDTH>
__device__ void transpose(const float* x, float* y) {
  __shared__ float tile[32][WIDTH];
  for (unsigned row = 0; row < 32; ++row) tile[row][threadIdx.x] = x[32 * row + threadIdx.x];
  __syncthreads();
  for (unsigned row = 0; row < 32; ++row) y[32 * row + threadIdx.x] = tile[threadIdx.x][row];
}

extern "C" __global__ void traced_transpose(const float* x, float* y) { transpose<32>(x, y); }
extern "C" __global__ void traced_transpose_padded(const float* x, float* y) { transpose<33>(x, y); }

// Reads vectors of shared memory, `stride` vectors apart from lane to lane; no stride is a broadcast.
template <class T>
__device__ void read_shared(float* y, unsigned stride) {
  __shared__ __align__(16) T tile[256];
  T value = tile[threadIdx.x * stride];
  y[threadIdx.x] = *reinterpret_cast<const unsigned char*>(&value);
}

extern "C" __global__ void traced_shared1(float* y, unsigned stride) { read_shared<unsigned char>(y, stride); }
extern "C" __global__ void traced_shared4(float* y, unsigned stride) { read_shared<float>(y, stride); }
extern "C" __global__ void traced_shared8(float* y, unsigned stride) { read_shared<float2>(y, stride); }
extern "C" __global__ void traced_shared16(float* y, unsigned stride) { read_shared<float4>(y, stride); }

extern "C" __global__ void traced_copy(const float* x, float* y, unsigned valid) {
  __shared__ __align__(16) float tile[128];
  copy_async<16>(tile + 4 * threadIdx.x, x + 4 * threadIdx.x, valid);
  commit_async();
  wait_async<0>();
  __syncthreads();
  y[threadIdx.x] = tile[threadIdx.x];
}

// Even lanes copy in even turns, odd ones in odd turns; the others write zeros.
extern "C" __global__ void traced_turns(const float* x, float* y, unsigned turns) {
  __shared__ __align__(16) float tile[128];
  for (unsigned turn = 0; turn < turns; ++turn)
    copy_async<16>(tile + 4 * threadIdx.x, x + 128 * turn + 4 * threadIdx.x, (threadIdx.x + turn) % 2 ? 0 : 16);
  commit_async();
  wait_async<0>();
  y[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void traced_matrices(float* y, unsigned stride) {
  __shared__ __align__(16) unsigned short tile[64 * 32];
  unsigned a[4], b[2] = {};
  float d[4] = {};
  load_matrices_transposed(a, tile + stride * threadIdx.x);
  mma_m16n8k8_tf32(d, a, b);
  y[threadIdx.x] = d[0];
}

// Lanes take as many turns as their number says, and even ones alone store.
extern "C" __global__ void traced_divergent(const float* x, float* y) {
  float sum = 0;
  for (unsigned i = 0; i < threadIdx.x; ++i) sum = fmaf(2, x[32 * i + threadIdx.x], sum);
  if (threadIdx.x % 2 == 0) y[threadIdx.x] = sum;
}

extern "C" __global__ void traced_twice(float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x] < 0 ? 0 : x[threadIdx.x];
  x[threadIdx.x] += 1;
}

extern "C" __global__ void traced_sum(const float* x, unsigned* count, float* y) {
  atomicAdd(count, 1);
  y[32 * blockIdx.x + threadIdx.x] = x[0];
}
