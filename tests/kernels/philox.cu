// The words of kernels/include/philox.cuh for any counter and key; one thread a counter.

#include "include/philox.cuh"

extern "C" __global__ void philox_words(const uint4* counters, const uint2* keys, uint4* words, unsigned n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) words[i] = philox(counters[i], keys[i]);
}
