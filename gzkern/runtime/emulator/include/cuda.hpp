// CUDA C++ for a host compiler: what a kernel sees.
#pragma once

#include "async_copy.hpp"
#include "atomics.hpp"
#include "intrinsics.hpp"
#include "table.hpp"
#include "tensor_core.hpp"
#include "trace.hpp"
#include "vectors.hpp"
#include "warp.hpp"
#include "warpgroup.hpp"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#ifdef EMULATION_TRACE
#define fmaf emulation::counted_fmaf
#endif

#define threadIdx (emulation::here().thread->index)
#define blockIdx (emulation::here().block->index)
#define blockDim (emulation::here().block->launch->block)
#define gridDim (emulation::here().block->launch->grid)
constexpr int warpSize = emulation::WARP;

inline void __syncthreads(emulation::Place place = emulation::Place::current()) { emulation::barrier(false, place); }

inline int __syncthreads_count(int predicate, emulation::Place place = emulation::Place::current()) {
  return emulation::barrier(predicate, place);
}

inline int __syncthreads_or(int predicate, emulation::Place place = emulation::Place::current()) {
  return emulation::barrier(predicate, place) > 0;
}

inline int __syncthreads_and(int predicate, emulation::Place place = emulation::Place::current()) {
  return emulation::barrier(!predicate, place) == 0;
}

[[noreturn]] inline void __trap(emulation::Place place = emulation::Place::current()) {
  emulation::Block& block = *emulation::here().block;
  block.fail("__trap() in %s(%u), reached by thread %u", place.file_name(), place.line(),
             emulation::here().thread->number);
}
