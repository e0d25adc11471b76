// A number that the compiler cannot look into: what is computed from it is not computed long before it is needed, where
// it would take registers from a loop.
#pragma once

__device__ __forceinline__ unsigned opaque(unsigned x) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+r"(x)::"memory");
#endif
  return x;
}
