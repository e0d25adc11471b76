// fragments_wgmma: products of a warpgroup, to prove the layout of wgmma's fragments and the descriptor of its shared
// operand; used by tests alone. sm_90a.
//
//   d = c + a b
//
// Arrays     a (64, 16), b (16, N), c and d (64, N), float32; a and b are rounded to tf32. N is 16, 32 or 64, as the kernel's
//            name says. b lies in shared memory as two operands of 8 rows, the second found from the first.
// Threads    one warpgroup.

#include "include/mma.cuh"
#include "include/wgmma.cuh"

constexpr unsigned DEPTH = 8, PRODUCTS = 2;

template <unsigned N>
__device__ __forceinline__ void multiply(const float* __restrict__ a, const float* __restrict__ b,
                                         const float* __restrict__ c, float* __restrict__ d) {
  __shared__ __align__(128) float tiles[PRODUCTS * DEPTH * N];
  for (unsigned i = threadIdx.x; i < PRODUCTS * DEPTH * N; i += 128) {
    const unsigned row = i / N, k = row % DEPTH, column = i % N;
    tiles[row / DEPTH * DEPTH * N + column / 8 * 2 * WGMMA_TILE + k / 4 * WGMMA_TILE + column % 8 * 4 + k % 4] =
        __uint_as_float(to_tf32(b[i]));
  }
  fence_async();
  __syncthreads();

  const unsigned lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4, t = lane % 4;
  unsigned a_parts[PRODUCTS][4];
  float sums[N / 2];
  for (unsigned product = 0; product < PRODUCTS; product++)
    for (unsigned i = 0; i < 4; i++)
      a_parts[product][i] = to_tf32(a[(row + i % 2 * 8) * PRODUCTS * DEPTH + product * DEPTH + t + i / 2 * 4]);
  for (unsigned i = 0; i < N / 2; i++) sums[i] = c[(row + i / 2 % 2 * 8) * N + i / 4 * 8 + 2 * t + i % 2];
  wgmma_fence();
  wgmma(sums, a_parts[0], columns_at(tiles));
  wgmma(sums, a_parts[1], columns_after(columns_at(tiles), DEPTH * N));
  wgmma_commit();
  wgmma_wait<0>();
  for (unsigned i = 0; i < N / 2; i++) d[(row + i / 2 % 2 * 8) * N + i / 4 * 8 + 2 * t + i % 2] = sums[i];
}

extern "C" __global__ void __launch_bounds__(128)
    fragments_wgmma_16(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ c,
                       float* __restrict__ d) {
  multiply<16>(a, b, c, d);
}

extern "C" __global__ void __launch_bounds__(128)
    fragments_wgmma_32(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ c,
                       float* __restrict__ d) {
  multiply<32>(a, b, c, d);
}

extern "C" __global__ void __launch_bounds__(128)
    fragments_wgmma_64(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ c,
                       float* __restrict__ d) {
  multiply<64>(a, b, c, d);
}
