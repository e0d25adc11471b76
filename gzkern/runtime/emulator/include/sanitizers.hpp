// What the sanitizers must be told of memory: what orders one CUDA thread's accesses before another's, what may not be
// touched. Without a sanitizer all of it is nothing.
//
// EMULATION_UNSEEN marks the emulator's own functions: ThreadSanitizer does not look at what they access, so that it
// sees the kernel's accesses alone. Such a function must not be forced into a kernel, hence no `always_inline`.
// EMULATION_UNCHECKED marks those that AddressSanitizer does not look at.
// EMULATION_UNTRACED marks those that the memory trace (trace.hpp), which comes by the same way, is told of otherwise.
#pragma once

#include <stddef.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#define EMULATION_UNSEEN __attribute__((no_sanitize_thread))
#ifndef EMULATION_TRACE
#define EMULATION_RACES
#include <sanitizer/tsan_interface.h>
#include <sys/mman.h>
#endif
#else
#define EMULATION_UNSEEN
#endif
#ifdef __SANITIZE_ADDRESS__
#define EMULATION_UNCHECKED __attribute__((no_sanitize_address))
#else
#define EMULATION_UNCHECKED
#endif
#ifdef EMULATION_TRACE
#define EMULATION_UNTRACED EMULATION_UNSEEN
#else
#define EMULATION_UNTRACED
#endif

namespace emulation {

#ifdef __SANITIZE_ADDRESS__
constexpr bool ADDRESSES_CHECKED = true;
#else
constexpr bool ADDRESSES_CHECKED = false;
#endif
#ifdef EMULATION_TRACE
constexpr bool TRACED = true;
#else
constexpr bool TRACED = false;
#endif
#ifdef EMULATION_RACES
constexpr bool RACES_SOUGHT = true;  // every CUDA thread is a fiber of ThreadSanitizer, on a stack of its own
#else
constexpr bool RACES_SOUGHT = false;
#endif

// All that a thread did before `release(point)` is ordered before what another does after `acquire(point)`.
inline void release([[maybe_unused]] void* point) {
#ifdef EMULATION_RACES
  __tsan_release(point);
#endif
}

inline void acquire([[maybe_unused]] void* point) {
#ifdef EMULATION_RACES
  __tsan_acquire(point);
#endif
}

// Let ThreadSanitizer forget who accessed whole pages, which is what mapping them anew does; they become zeros.
inline void forget_accesses([[maybe_unused]] void* pages, [[maybe_unused]] size_t bytes) {
#ifdef EMULATION_RACES
  mmap(pages, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
#endif
}

// Forbid or allow any access to a range, for AddressSanitizer; its grain is 8 bytes.
inline void forbid([[maybe_unused]] void* address, [[maybe_unused]] size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  __asan_poison_memory_region(address, bytes);
#endif
}

inline void allow([[maybe_unused]] void* address, [[maybe_unused]] size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(address, bytes);
#endif
}

}  // namespace emulation
