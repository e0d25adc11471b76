// What Python asks for, and what it is told.
#pragma once

#include <stdio.h>

#include "sanitizers.hpp"
#include "vectors.hpp"

namespace emulation {

enum class Order : unsigned { forward, reverse, random };

struct Array {
  const char* begin;
  size_t bytes;
};

// gzkern/runtime/emulator/shared_library.py has the same fields.
struct Launch {
  uint3 grid, block;
  unsigned shared_bytes;
  Order order;
  unsigned seed;
  unsigned late_copies;
  unsigned workers;
  const unsigned long long* chosen;  // numbers of the blocks to run, so many; none: all of the grid
  unsigned long long chosen_count;
  const Array* arrays;  // those of the arguments, for a trace
  unsigned array_count;
  void* memory;  // of so many Workers
  void** arguments;
  char message[512];
  unsigned has_failed;

  EMULATION_UNSEEN bool failed() const { return __atomic_load_n(&has_failed, __ATOMIC_ACQUIRE); }

  // Give up, and keep the first reason of all blocks.
  template <class... Values>
  EMULATION_UNSEEN void fail(const uint3& block, const char* format, Values... values) {
    if (__atomic_exchange_n(&has_failed, 1, __ATOMIC_ACQ_REL)) return;
    const int length = snprintf(message, sizeof message, "block (%u, %u, %u): ", block.x, block.y, block.z);
    snprintf(message + length, sizeof message - length, format, values...);
  }
};

// What the memory trace is told; trace.hpp has it, without a trace it is nothing.
struct Block;
struct Copy;
inline void begin_trace(const Launch& launch);
inline void end_requests(const Block& block);
inline void end_block(const Block& block);
inline void note_collective(const char* name, unsigned lanes);
inline void note_shared_read(const void* address, unsigned bytes);
inline void note_copy(const Copy& copy);
inline void note_atomic(const void* address, unsigned bytes);

}  // namespace emulation
