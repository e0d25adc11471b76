// Atomic operations on global and shared memory; each returns the value before.
//
// They also order the accesses around them, which CUDA's do not: ThreadSanitizer knows no fences, so a kernel that
// hands data over by fence and atomic would look racy. A missing __threadfence is not found.
#pragma once

#include <atomic>

namespace emulation {

template <class T, class Update>
T update_atomically(T* address, Update update) {
  std::atomic_ref<T> target(*address);
  T before = target.load();
  while (!target.compare_exchange_weak(before, update(before))) {
  }
  return before;
}

// Lets the other argument be converted, as CUDA's overloads do.
template <class T>
using Plain = std::type_identity_t<T>;

}  // namespace emulation

template <class T>
T atomicAdd(T* address, emulation::Plain<T> value) {
  return emulation::update_atomically(address, [value](T before) { return before + value; });
}

template <class T>
T atomicSub(T* address, emulation::Plain<T> value) {
  return emulation::update_atomically(address, [value](T before) { return before - value; });
}

template <class T>
T atomicMax(T* address, emulation::Plain<T> value) {
  return emulation::update_atomically(address, [value](T before) { return before < value ? value : before; });
}

template <class T>
T atomicMin(T* address, emulation::Plain<T> value) {
  return emulation::update_atomically(address, [value](T before) { return value < before ? value : before; });
}

template <class T>
T atomicAnd(T* address, emulation::Plain<T> value) {
  return emulation::update_atomically(address, [value](T before) { return before & value; });
}

template <class T>
T atomicOr(T* address, emulation::Plain<T> value) {
  return emulation::update_atomically(address, [value](T before) { return before | value; });
}

template <class T>
T atomicXor(T* address, emulation::Plain<T> value) {
  return emulation::update_atomically(address, [value](T before) { return before ^ value; });
}

template <class T>
T atomicExch(T* address, emulation::Plain<T> value) {
  return std::atomic_ref<T>(*address).exchange(value);
}

template <class T>
T atomicCAS(T* address, emulation::Plain<T> expected, emulation::Plain<T> value) {
  std::atomic_ref<T>(*address).compare_exchange_strong(expected, value);
  return expected;
}

inline void __threadfence() { std::atomic_signal_fence(std::memory_order_seq_cst); }
inline void __threadfence_block() { __threadfence(); }
inline void __threadfence_system() { __threadfence(); }
