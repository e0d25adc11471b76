// Atomic operations on global and shared memory; each returns the value before.
//
// They also order the accesses around them, which CUDA's do not: ThreadSanitizer knows no fences, so a kernel that
// hands data over by fence and atomic would look racy. A missing __threadfence is not found.
#pragma once

#include "launch.hpp"

namespace emulation {

template <class T, class Update>
EMULATION_UNTRACED T update_atomically(T* address, Update update) {
  note_atomic(address, sizeof(T));
  T before, after;
  __atomic_load(address, &before, __ATOMIC_SEQ_CST);
  do {
    after = update(before);
  } while (!__atomic_compare_exchange(address, &before, &after, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  return before;
}

// A parameter that does not take part in the choice of T, so that atomicAdd(unsigned*, 1) is one of unsigned numbers.
template <class T>
struct Given {
  using type = T;
};

}  // namespace emulation

#define EMULATION_ATOMIC(name, expression)                                                       \
  template <class T>                                                                             \
  T name(T* address, typename emulation::Given<T>::type value) {                                 \
    return emulation::update_atomically(address, [value](T before) -> T { return expression; }); \
  }
EMULATION_ATOMIC(atomicAdd, before + value)
EMULATION_ATOMIC(atomicSub, before - value)
EMULATION_ATOMIC(atomicMin, value < before ? value : before)
EMULATION_ATOMIC(atomicMax, before < value ? value : before)
EMULATION_ATOMIC(atomicAnd, before & value)
EMULATION_ATOMIC(atomicOr, before | value)
EMULATION_ATOMIC(atomicXor, before ^ value)
EMULATION_ATOMIC(atomicExch, value)
#undef EMULATION_ATOMIC

template <class T>
T atomicCAS(T* address, typename emulation::Given<T>::type expected, typename emulation::Given<T>::type value) {
  return emulation::update_atomically(address, [=](T before) { return before == expected ? value : before; });
}

inline void __threadfence() { __atomic_signal_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __threadfence(); }
inline void __threadfence_system() { __threadfence(); }
