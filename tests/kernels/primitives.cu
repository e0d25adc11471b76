// primitives: what kernels take from CUDA, one kernel a subject; used by tests alone.
//
// The emulated device and a GPU must agree on all of it. Blocks of 64 threads unless said otherwise.

#include "include/async_copy.cuh"

constexpr unsigned THREADS = 64;

// y[d][w][kind][thread]: shuffles by d = 0 … 31 in segments of 2^(w + 1) lanes: from lane d, up, down, xor.
extern "C" __global__ void primitives_shuffles(const int* x, int* y) {
  const unsigned thread = threadIdx.x;
  const int value = x[thread];
  for (int d = 0; d < 32; d++)
    for (int w = 0; w < 5; w++) {
      int* out = y + (d * 5 + w) * 4 * THREADS + thread;
      const int width = 2 << w;
      out[0 * THREADS] = __shfl_sync(0xffffffff, value, d, width);
      out[1 * THREADS] = __shfl_up_sync(0xffffffff, value, d % width, width);
      out[2 * THREADS] = __shfl_down_sync(0xffffffff, value, d % width, width);
      out[3 * THREADS] = __shfl_xor_sync(0xffffffff, value, d, width);
    }
}

// y[kind][thread]: floats and 64-bit values, and halves of a warp that shuffle apart from each other.
extern "C" __global__ void primitives_shuffled_types(const double* x, double* y) {
  const unsigned thread = threadIdx.x;
  y[thread] = __shfl_xor_sync(0xffffffff, static_cast<float>(x[thread]), 1);
  y[THREADS + thread] = __shfl_xor_sync(0xffffffff, x[thread], 2);
  y[2 * THREADS + thread] = static_cast<double>(__shfl_xor_sync(0xffffffff, static_cast<long long>(x[thread]), 4));
  if (thread % 32 < 16)
    for (int i = 0; i < 3; i++) y[3 * THREADS + thread] = __shfl_xor_sync(0x0000ffff, x[thread], i);
  else
    y[3 * THREADS + thread] = __shfl_xor_sync(0xffff0000, x[thread], 8);
}

// y[kind][thread]
extern "C" __global__ void primitives_votes(const int* x, unsigned* y) {
  const unsigned thread = threadIdx.x, even = 0x55555555;
  y[thread] = __ballot_sync(0xffffffff, x[thread] > 0);
  y[THREADS + thread] = __any_sync(0xffffffff, x[thread] > 5);
  y[2 * THREADS + thread] = __all_sync(0xffffffff, x[thread] > -5);
  y[3 * THREADS + thread] = thread % 2 ? __ballot_sync(~even, x[thread] > 1) : __ballot_sync(even, x[thread] > 2);
}

// y[kind][thread], over the warp and over its odd lanes
extern "C" __global__ void primitives_reductions(const int* x, int* y) {
  const unsigned thread = threadIdx.x, word = x[thread];
  int* out = y + thread;
  out[0 * THREADS] = __reduce_add_sync(0xffffffff, x[thread]);
  out[1 * THREADS] = __reduce_min_sync(0xffffffff, x[thread]);
  out[2 * THREADS] = __reduce_max_sync(0xffffffff, x[thread]);
  out[3 * THREADS] = __reduce_min_sync(0xffffffff, word);
  out[4 * THREADS] = __reduce_max_sync(0xffffffff, word);
  out[5 * THREADS] = __reduce_and_sync(0xffffffff, word);
  out[6 * THREADS] = __reduce_or_sync(0xffffffff, word);
  out[7 * THREADS] = __reduce_xor_sync(0xffffffff, word);
  out[8 * THREADS] = 0;
  if (thread % 2) out[8 * THREADS] = __reduce_add_sync(0xaaaaaaaa, word);
}

// y[kind][thread]
extern "C" __global__ void primitives_barriers(const int* x, int* y) {
  int* out = y + threadIdx.x;
  out[0 * THREADS] = __syncthreads_count(x[threadIdx.x] > 0);
  out[1 * THREADS] = __syncthreads_and(x[threadIdx.x] > -100);
  out[2 * THREADS] = __syncthreads_and(x[threadIdx.x] > 0);
  out[3 * THREADS] = __syncthreads_or(x[threadIdx.x] > 0);
  out[4 * THREADS] = __syncthreads_or(x[threadIdx.x] > 100);
}

// Three blocks. `seen` becomes 1 wherever an increment of unsigneds[0] led.
extern "C" __global__ void primitives_atomics(const int* x, int* counters, unsigned* unsigneds, long long* longs,
                                              float* floats, int* seen) {
  const int value = x[blockIdx.x * THREADS + threadIdx.x];
  seen[atomicAdd(&unsigneds[0], 1)] = 1;
  atomicAdd(&counters[0], value);
  atomicSub(&counters[1], value);
  atomicMin(&counters[2], value);
  atomicMax(&counters[3], value);
  atomicOr(&counters[4], value);
  atomicAnd(&counters[5], value);
  atomicXor(&counters[6], value);
  atomicExch(&counters[7], 7);
  atomicCAS(&counters[8], 8, 9);
  atomicMin(&unsigneds[1], static_cast<unsigned>(value));
  atomicMax(&unsigneds[2], static_cast<unsigned>(value));
  atomicAdd(reinterpret_cast<unsigned long long*>(&longs[0]), 1ull << 40);
  atomicMax(&longs[1], static_cast<long long>(value) << 20);
  atomicAdd(&floats[0], static_cast<float>(value));
}

// y[kind][i], n numbers
extern "C" __global__ void primitives_bits(const unsigned* x, unsigned* y, unsigned n) {
  for (unsigned i = threadIdx.x; i < n; i += THREADS) {
    const unsigned a = x[i], b = x[(i + 1) % n];
    const int c = a, d = b;
    const unsigned long long both = static_cast<unsigned long long>(a) << 32 | b;
    unsigned* out = y + i;
    out[0 * n] = __popc(a);
    out[1 * n] = __clz(c);
    out[2 * n] = __ffs(c);
    out[3 * n] = __brev(a);
    out[4 * n] = __umulhi(a, b);
    out[5 * n] = __mulhi(c, d);
    out[6 * n] = __umul64hi(both, both);
    out[7 * n] = __popcll(both) + __clzll(both) + __ffsll(both);
    out[8 * n] = __float_as_uint(__uint_as_float(a & 0x3fffffff) * 2);
    out[9 * n] = __float_as_int(__int_as_float(c & 0x3fffffff) * 2);
    out[10 * n] = min(a, b);
    out[11 * n] = max(a, b);
    out[12 * n] = min(c, d);
    out[13 * n] = max(c, d);
    out[14 * n] = min(c, b);
  }
}

// y[kind][i], n numbers, NaN and infinities among them
extern "C" __global__ void primitives_floats(const float* x, float* y, unsigned n) {
  for (unsigned i = threadIdx.x; i < n; i += THREADS) {
    const float a = x[i], b = x[(i + 1) % n];
    float* out = y + i;
    out[0 * n] = min(a, b);
    out[1 * n] = max(a, b);
    out[2 * n] = __saturatef(a);
    out[3 * n] = (isnan(a) ? 1 : 0) + (isinf(a) ? 2 : 0) + (isfinite(a) ? 4 : 0) + (signbit(a) ? 8 : 0);
    out[4 * n] = fmaf(a, b, -a);
    out[5 * n] = __fmaf_rn(a, b, b);
    out[6 * n] = __fadd_rn(__fmul_rn(a, b), a);
    out[7 * n] = fabsf(a) < 100 ? __float2int_rn(a) + 10 * __float2int_rz(a) + 100 * __float2int_rd(a) : 0;
    out[8 * n] = __ldg(&x[i]);
    out[9 * n] = sqrtf(fabsf(a));
    out[10 * n] = __fdiv_rn(a, b);
  }
}

// The transpose of a square by one block of 32 × 32, through static and through dynamic shared memory.
extern "C" __global__ void __launch_bounds__(1024) primitives_transpose(const float* x, float* y, float* z) {
  __shared__ float tile[32][33];
  extern __shared__ __align__(16) float more[];
  const unsigned row = threadIdx.y, column = threadIdx.x;
  tile[row][column] = more[row * 33 + column] = x[row * 32 + column];
  __syncthreads();
  y[row * 32 + column] = tile[column][row];
  z[row * 32 + column] = more[column * 33 + row];
}

template <int INSTANCE, class T>
__device__ T reversed(T value) {
  __shared__ T tile[THREADS];
  __shared__ T hundred;
  tile[threadIdx.x] = value;
  if (threadIdx.x == 0) hundred = 100;
  __syncthreads();
  return tile[THREADS - 1 - threadIdx.x] + hundred;
}

// Shared memory in a template: each instance has its own, so no barrier is needed between them.
extern "C" __global__ void primitives_templates(const float* x, float* y) {
  y[threadIdx.x] = reversed<0>(x[threadIdx.x]) + 2 * reversed<1>(x[threadIdx.x] + 1) +
                   3 * reversed<0>(static_cast<int>(x[threadIdx.x]));
}

// y[i] = x[i] where the copy of 4, 8 or 16 bytes is valid, else 0; the groups arrive one after the other.
extern "C" __global__ void primitives_copies(const float* x, float* y, unsigned n) {
  __shared__ __align__(16) float tile[3][THREADS * 4];
  const unsigned i = threadIdx.x;
  auto valid = [n](unsigned first, int bytes) { return max(0, min(static_cast<int>(n - first) * 4, bytes)); };
  copy_async<4>(&tile[0][i], &x[min(i, n - 1)], valid(i, 4));
  commit_async();
  copy_async<8>(&tile[1][2 * i], &x[2 * min(i, (n - 1) / 2)], valid(2 * i, 8));
  commit_async();
  copy_async<16>(&tile[2][4 * i], &x[4 * min(i, (n - 1) / 4)], valid(4 * i, 16));
  commit_async();
  wait_async<2>();
  __syncthreads();
  y[i] = tile[0][THREADS - 1 - i];
  wait_async<0>();
  __syncthreads();
  for (unsigned k = i; k < 2 * THREADS; k += THREADS) y[THREADS + k] = tile[1][2 * THREADS - 1 - k];
  for (unsigned k = i; k < 4 * THREADS; k += THREADS) y[3 * THREADS + k] = tile[2][4 * THREADS - 1 - k];
}

// Vectors are loaded and stored as one; components change places.
extern "C" __global__ void primitives_vectors(const float* x, const unsigned char* u, float* y, unsigned char* v) {
  const unsigned i = threadIdx.x;
  const float4 a = reinterpret_cast<const float4*>(x)[i];
  reinterpret_cast<float4*>(y)[i] = make_float4(a.w, a.z, a.y, a.x);
  const uchar4 b = reinterpret_cast<const uchar4*>(u)[i];
  reinterpret_cast<uchar4*>(v)[i] = make_uchar4(b.w, b.z, b.y, b.x);
  const float2 c = reinterpret_cast<const float2*>(x)[i];
  reinterpret_cast<float2*>(y)[2 * THREADS + i] = make_float2(c.y, c.x);
  const int2 d = make_int2(c.x, c.y);
  const uint3 e = make_uint3(1, 2, 3);
  const unsigned long long sizes = sizeof(float3) + alignof(float4) + alignof(float2) + alignof(uchar4) +
                                   alignof(int4) + alignof(float3) + sizeof(double2);
  y[6 * THREADS + i] = d.x + 2 * d.y + static_cast<int>(e.z + sizes);
}

// y[thread of the grid][6] = x + where it is, in a grid and blocks of three dimensions.
extern "C" __global__ void primitives_indices(const unsigned* x, unsigned* y) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned first = (block * blockDim.x * blockDim.y * blockDim.z + thread) * 6;
  const unsigned where[6] = {blockIdx.z, blockIdx.y, blockIdx.x, threadIdx.z, threadIdx.y, threadIdx.x};
  for (unsigned i = 0; i < 6; i++) y[first + i] = x[first + i] + where[i];
}

// Scalars of every size, added to x by one thread.
extern "C" __global__ void primitives_scalars(const double* x, double* y, bool b, signed char c, unsigned char d,
                                              short e, unsigned short f, int g, unsigned h, long long i,
                                              unsigned long long j, float k, double l) {
  const double values[11] = {static_cast<double>(b),
                             static_cast<double>(c),
                             static_cast<double>(d),
                             static_cast<double>(e),
                             static_cast<double>(f),
                             static_cast<double>(g),
                             static_cast<double>(h),
                             static_cast<double>(i),
                             static_cast<double>(j),
                             static_cast<double>(k),
                             l};
  for (int position = 0; position < 11; position++) y[position] = x[position] + values[position];
}
