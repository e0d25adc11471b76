// fragments: one tile by mma.sync, to prove the layout of its fragments; used by tests alone.
//
//   d = c + a b
//
// Arrays     a (16, 8), b (8, 8), c and d (16, 8), float32; a and b are rounded to tf32.
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
