// take: a copy of one slot of a ring, whose number the step on the device says.
//
//   taken[i] = ring[step mod slots, i]
//
// Arrays     ring (slots, …) contiguous, n elements a slot, vectorised n times four; taken a slot; step (1,) int64.
// Threads    naive: one an element. vectorised: one four elements.
// Versions   naive        an element a thread
//            vectorised   16-byte loads and stores; a slot is a multiple of 16 bytes

#include "include/ring.cuh"

template <typename Element>
__device__ __forceinline__ void take(const Element* ring, const long long* step, Element* taken, unsigned slots,
                                     unsigned n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) taken[i] = ring[slot_of(step, slots) * n + i];
}

extern "C" __global__ void take_naive(const float* __restrict__ ring, const long long* __restrict__ step,
                                      float* __restrict__ taken, unsigned slots, unsigned n) {
  take(ring, step, taken, slots, n);
}

extern "C" __global__ void take_vectorised(const float4* __restrict__ ring, const long long* __restrict__ step,
                                           float4* __restrict__ taken, unsigned slots, unsigned n) {
  take(ring, step, taken, slots, n);
}
