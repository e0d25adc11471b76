// cp.async: copies from global to shared memory, at once or, in a launch with late copies, when they are waited for.
//
// A kernel that waits too little is right with early copies and reads unset shared memory with late ones.
#pragma once

#include <stdint.h>
#include <string.h>

#include "async_proxy.hpp"

namespace emulation {

struct Copy {
  void* to;
  const void* from;
  unsigned bytes, valid;  // the bytes after the first `valid` become 0
  unsigned group;
};

EMULATION_UNTRACED inline void perform(const Copy& copy) {
  if (copy.valid == copy.bytes) {
    memcpy(copy.to, copy.from, copy.bytes);  // a move or two, where inlining knows the bytes
  } else {
    memcpy(copy.to, copy.from, copy.valid);
    memset(static_cast<char*>(copy.to) + copy.valid, 0, copy.bytes - copy.valid);
  }
  stamp_write(copy.to, copy.bytes);
}

[[noreturn]] EMULATION_UNSEEN __attribute__((noinline)) inline void refuse(const Copy& copy, const char* problem,
                                                                           Place place) {
  auto [block, thread] = here();
  block->fail("thread %u copies %u bytes asynchronously, %u of them valid, %s, in %s(%u)", thread->number, copy.bytes,
              copy.valid, problem, place.file_name(), place.line());
}

EMULATION_UNSEEN __attribute__((noinline)) inline void enqueue(const Copy& copy, Place place) {
  auto [block, thread] = here();
  if (thread->copies_queued == MOST_COPIES)
    refuse(copy, "while as many of its copies are under way as the emulated device has room for", place);
  const unsigned slot = (thread->first_copy + thread->copies_queued++) % MOST_COPIES;
  block->copies[thread->number][slot] = copy;
}

EMULATION_UNTRACED inline void copy_async(void* shared, const void* global, unsigned bytes, unsigned valid,
                                          Place place = Place::current()) {
  auto [block, thread] = here();
  const Copy copy{shared, global, bytes, valid, thread->copy_groups};
  const uintptr_t to = reinterpret_cast<uintptr_t>(shared), from = reinterpret_cast<uintptr_t>(global);
  if (block->shared->offset(shared) >= SharedMemory::BYTES) refuse(copy, "to memory that is not shared", place);
  if ((to | from) % bytes) refuse(copy, "of misaligned addresses", place);
  if (valid > bytes) refuse(copy, "which are more than it copies", place);
  note_copy(copy);
  if (block->launch->late_copies)
    enqueue(copy, place);
  else
    perform(copy);
}

EMULATION_UNSEEN inline void commit_async() { here().thread->copy_groups++; }

// Wait until all but the last `groups` closed groups have arrived.
EMULATION_UNSEEN inline void wait_async(unsigned groups) {
  auto [block, thread] = here();
  while (thread->copies_queued) {
    const Copy& copy = block->copies[thread->number][thread->first_copy];
    if (copy.group + groups >= thread->copy_groups) break;
    perform(copy);
    thread->first_copy = (thread->first_copy + 1) % MOST_COPIES;
    thread->copies_queued--;
  }
}

}  // namespace emulation
