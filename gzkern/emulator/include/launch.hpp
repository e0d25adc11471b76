// What Python asks for, and what it is told.
#pragma once

#include <stdio.h>

#include "sanitizers.hpp"
#include "vectors.hpp"

namespace emulation {

enum class Order : unsigned { forward, reverse, random };

// gzkern/emulator/library.py has the same fields.
struct Launch {
  uint3 grid, block;
  unsigned shared_bytes;
  Order order;
  unsigned seed;
  unsigned late_copies;
  unsigned workers;
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

}  // namespace emulation
