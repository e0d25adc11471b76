// Fibers: lines of execution, each on its own stack, of which one runs at a time; and what the sanitizers must be told
// when another one goes on.
#pragma once

#include "context.hpp"
#include "sanitizers.hpp"

namespace emulation {

struct Fiber {
  Context context;  // where it goes on
  char* stack;      // its bottom
  size_t stack_bytes;
  void* address_state;  // AddressSanitizer's
  void* race_state;     // ThreadSanitizer's
};

// A fiber for ThreadSanitizer, whose accesses come after all that the caller has done.
inline void create_race_state([[maybe_unused]] Fiber& fiber) {
#ifdef EMULATION_RACES
  fiber.race_state = __tsan_create_fiber(0);
#endif
}

inline void destroy_race_state([[maybe_unused]] Fiber& fiber) {
#ifdef EMULATION_RACES
  __tsan_destroy_fiber(fiber.race_state);
#endif
}

// Take over a stack of the host's thread, which runs already.
inline void adopt_host([[maybe_unused]] Fiber& host) {
#ifdef EMULATION_RACES
  host.race_state = __tsan_get_current_fiber();
#endif
}

// Let ThreadSanitizer count what follows as the doing of `to`, on the stack that runs now.
EMULATION_UNSEEN inline void switch_race_state([[maybe_unused]] Fiber& to) {
#ifdef EMULATION_RACES
  __tsan_switch_to_fiber(to.race_state, __tsan_switch_to_fiber_no_sync);
#endif
}

// To be called first on a new stack, or when a fiber goes on; `origin`, if given, learns the bounds of its own stack.
EMULATION_UNSEEN inline void arrived([[maybe_unused]] Fiber& now, [[maybe_unused]] Fiber* origin) {
#ifdef __SANITIZE_ADDRESS__
  const void* stack;
  size_t bytes;
  __sanitizer_finish_switch_fiber(now.address_state, &stack, &bytes);
  if (origin) origin->stack = static_cast<char*>(const_cast<void*>(stack)), origin->stack_bytes = bytes;
#endif
}

// Let `to` run; returns when `from` goes on, or never if it left for ever.
EMULATION_UNSEEN inline void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool for_ever) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(for_ever ? nullptr : &from.address_state, to.stack, to.stack_bytes);
#endif
  switch_race_state(to);
  switch_context(from.context, to.context);
  arrived(from, nullptr);
}

}  // namespace emulation
