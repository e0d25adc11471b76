// fragments: a tile or two by mma.sync, to prove the layout of its fragments; used by tests alone.
//
//   d = c + a b
//
// Arrays     mma: a (16, 8), b (8, 8), c and d (16, 8), float32; a and b are rounded to tf32.
//            bf16: a (16, 16), b (16, 16), c and d (16, 16); a and b are rounded to bfloat16, and lie in shared memory as
//            rows of what is summed over, which ldmatrix transposes.
// Threads    one warp.

#include "include/mma.cuh"

extern "C" __global__ void __launch_bounds__(32) fragments_mma(const float* __restrict__ a, const float* __restrict__ b,
                                                               const float* __restrict__ c, float* __restrict__ d) {
  const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
  unsigned a_part[4], b_part[2];
  float sums[4];
  for (unsigned i = 0; i < 4; i++) a_part[i] = to_tf32(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
  for (unsigned i = 0; i < 2; i++) b_part[i] = to_tf32(b[(t + i * 4) * 8 + g]);
  for (unsigned i = 0; i < 4; i++) sums[i] = c[(g + i / 2 * 8) * 8 + 2 * t + i % 2];
  mma_m16n8k8_tf32(sums, a_part, b_part);
  for (unsigned i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}

extern "C" __global__ void __launch_bounds__(32)
    fragments_bf16(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ c,
                   float* __restrict__ d) {
  __shared__ __align__(16) unsigned short a_rows[16][16];
  __shared__ __align__(16) unsigned short b_rows[16][16];
  const unsigned lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (unsigned i = lane; i < 256; i += 32) {
    a_rows[i % 16][i / 16] = to_bf16(a[i]);
    b_rows[i / 16][i % 16] = to_bf16(b[i]);
  }
  __syncthreads();
  unsigned a_part[4], b_parts[4];
  load_matrices_transposed(a_part, &a_rows[lane % 8 + lane / 16 * 8][lane / 8 % 2 * 8]);
  load_matrices_transposed(b_parts, &b_rows[lane % 16][lane / 16 * 8]);
  for (unsigned tile = 0; tile < 2; tile++) {
    float sums[4];
    for (unsigned i = 0; i < 4; i++) sums[i] = c[(g + i / 2 * 8) * 16 + 8 * tile + 2 * t + i % 2];
    mma_m16n8k16_bf16(sums, a_part, b_parts + 2 * tile);
    for (unsigned i = 0; i < 4; i++) d[(g + i / 2 * 8) * 16 + 8 * tile + 2 * t + i % 2] = sums[i];
  }
}
