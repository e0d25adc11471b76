// Copies from global to shared memory that run beside the arithmetic (cp.async, sm_80 and newer).
//
//   copy_async<BYTES>(shared, global, valid)   start one copy of 4, 8 or 16 aligned bytes; the bytes after the first
//                                              `valid` become 0, and are not read
//   commit_async()                             close a group of copies
//   wait_async<N>()                            wait until all but the last N groups have arrived, for this thread's
//                                              copies alone: a barrier must follow before others read them
#pragma once

template <int BYTES>
__device__ __forceinline__ void copy_async(void* shared, const void* global, int valid = BYTES) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
#ifdef __CUDA_ARCH__
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  if constexpr (BYTES == 16)  // .cg: past L1, whole 16 bytes only
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(valid) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(global), "n"(BYTES), "r"(valid)
                 : "memory");
#else
  emulation::copy_async(shared, global, BYTES, valid);
#endif
}

__device__ __forceinline__ void commit_async() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  emulation::commit_async();
#endif
}

template <int N>
__device__ __forceinline__ void wait_async() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#else
  emulation::wait_async(N);
#endif
}
