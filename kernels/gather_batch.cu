// gather_batch: a copy of one slot of a staging buffer, whose number is the step counter modulo the slots.
//
//   batch[i] = staged[step mod slots, i]
//
// Arrays     staged (slots, …) contiguous, n elements a slot, vectorised n times four; batch one slot; step (1,) int64.
// Threads    naive: one an element. vectorised: one four elements.
// Versions   naive        an element a thread
//            vectorised   16-byte loads and stores; a slot is a multiple of 16 bytes

#include "include/staging.cuh"

template <typename Element>
__device__ __forceinline__ void gather(const Element* staged, const long long* step, Element* batch, unsigned slots,
                                       unsigned n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) batch[i] = staged[slot_of(step, slots) * n + i];
}

extern "C" __global__ void gather_batch_naive(const float* __restrict__ staged, const long long* __restrict__ step,
                                              float* __restrict__ batch, unsigned slots, unsigned n) {
  gather(staged, step, batch, slots, n);
}

extern "C" __global__ void gather_batch_vectorised(const float4* __restrict__ staged,
                                                   const long long* __restrict__ step, float4* __restrict__ batch,
                                                   unsigned slots, unsigned n) {
  gather(staged, step, batch, slots, n);
}
