// Shared memory. Every byte is 0xFF before a block begins, so a float that nobody wrote is NaN.
//
// Python rewrites the declarations, as C++ has no storage that lives as long as a block:
//   __shared__ __align__(16) float tile[8][32];       auto& tile = EMULATION_SHARED(16, float[8][32]);
//   extern __shared__ float tile[];                   float* tile = emulation::dynamic_shared<float>();
#pragma once

#include <string.h>

#include "block.hpp"

namespace emulation {

constexpr unsigned MOST_STATIC_SHARED = 48 << 10, MOST_SHARED = 227 << 10;  // bytes of a block
constexpr unsigned MOST_VARIABLES = 64, VARIABLE_GRAIN = 128;
constexpr unsigned PAGE = 4096, WORD = 4;
constexpr unsigned RED_ZONE = ADDRESSES_CHECKED ? 256 : 0;  // forbidden bytes around each variable

// One for each declaration, and for each instance of a template: its address is what counts.
struct SharedVariable {};

struct SharedMemory {
  static constexpr unsigned BYTES =
      (MOST_SHARED + (MOST_VARIABLES + 2) * (RED_ZONE + VARIABLE_GRAIN) + PAGE - 1) / PAGE * PAGE;
  struct {
    const SharedVariable* key;
    char* address;
  } variables[MOST_VARIABLES];
  unsigned count, end;  // variables, and bytes that they take
  unsigned static_bytes, dynamic_bytes;
  char* dynamic;
  bool stamped;                   // a word of this block
  unsigned stamps[BYTES / WORD];  // of async_proxy.hpp
  alignas(PAGE) char bytes[BYTES];

  // Of an address; BYTES or more if it is not shared.
  EMULATION_UNSEEN size_t offset(const void* address) const {
    return reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(bytes);
  }

  // Begin a block with nothing but the dynamic part.
  EMULATION_UNSEEN void reset(unsigned dynamic_bytes) {
    forget_accesses(bytes, sizeof bytes);
    forbid(bytes, sizeof bytes);
    if (stamped) memset(stamps, 0, (end + WORD - 1) / WORD * sizeof *stamps);
    stamped = false;
    count = end = static_bytes = 0;
    this->dynamic_bytes = dynamic_bytes;
    dynamic = place(dynamic_bytes, 16);
  }

  // The next range, unset. Under AddressSanitizer it is aligned as demanded and no better, so that a missing __align__
  // shows; but to 8 bytes, the grain of what can be forbidden.
  EMULATION_UNSEEN char* place(unsigned size, unsigned alignment) {
    end = (end + RED_ZONE + VARIABLE_GRAIN - 1) / VARIABLE_GRAIN * VARIABLE_GRAIN;
    if (ADDRESSES_CHECKED) end += alignment < 8 ? 8 : alignment;
    char* address = bytes + end;
    end += size;
    allow(address, size);
    if (RACES_SOUGHT) {  // memset would be seen, as an access of the thread that declares the variable first
      for (volatile char* byte = address; byte < address + size; byte++) *byte = '\xff';
    } else {
      memset(address, 0xff, size);
    }
    return address;
  }
};

// The variable of this block, which comes to be when the first thread declares it.
EMULATION_UNSEEN __attribute__((noinline)) inline char* shared(const SharedVariable& key, unsigned size,
                                                               unsigned alignment, Place place) {
  Block& block = *here().block;
  SharedMemory& memory = *block.shared;
  for (unsigned i = 0; i < memory.count; i++)
    if (memory.variables[i].key == &key) return memory.variables[i].address;
  memory.static_bytes += size;
  if (memory.static_bytes > MOST_STATIC_SHARED || memory.static_bytes + memory.dynamic_bytes > MOST_SHARED)
    block.fail(
        "%u bytes of static and %u of dynamic shared memory, counted in %s(%u); a block has at most %u of "
        "static and %u in all",
        memory.static_bytes, memory.dynamic_bytes, place.file_name(), place.line(), MOST_STATIC_SHARED, MOST_SHARED);
  if (memory.count == MOST_VARIABLES)
    block.fail("more than %u variables in shared memory, in %s(%u); the emulated device has no room for them",
               MOST_VARIABLES, place.file_name(), place.line());
  char* address = memory.place(size, alignment);
  memory.variables[memory.count++] = {&key, address};
  return address;
}

template <class T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(here().block->shared->dynamic);
}

}  // namespace emulation

// A lambda that captures, so that such a declaration compiles in functions alone.
#define EMULATION_SHARED(alignment, ...)                                                        \
  [&]() -> auto& {                                                                              \
    using Variable = __VA_ARGS__;                                                               \
    constexpr unsigned aligned = alignof(Variable) > alignment ? alignof(Variable) : alignment; \
    static emulation::SharedVariable key;                                                       \
    return *reinterpret_cast<Variable*>(                                                        \
        emulation::shared(key, sizeof(Variable), aligned, emulation::Place::current()));        \
  }()
