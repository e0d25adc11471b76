// wgmma in tf32, as strict as the PTX ISA (section "Asynchronous Warpgroup Level Matrix Instructions") and as late as it
// allows. A launch fails where a kernel breaks one of these rules:
//
//   together   A warpgroup is 128 threads from a multiple of 128 on. All of them come to the same instructions at the same
//              places in the same order, with the same shared operand. They go through them one by one, and wait for each
//              other in wgmma.wait_group alone: an instruction hides no missing barrier.
//   registers  Between an access of a thread to registers of d or a and a product that takes them there is a wgmma.fence;
//              none is needed for a d that an earlier product of the same shape has written. wgmma.fence keeps a copy of the
//              thread's stack, where all arrays are, and a product compares: its d and a must be as they were.
//   in flight  Until wgmma.wait_group covers a product's group, d and a must not be touched, nor b in shared memory be
//              written. d is a signalling NaN meanwhile, which any arithmetic changes; products are computed, and d
//              written, when they are waited for, if d is still that NaN and a and b are what they were at the beginning.
//              So the arrays of d and a must live until then.
//   proxies    b is published to the async proxy: see async_proxy.hpp.
//
// Not seen: that a thread writes what was there before; that it reads d after the fence, or reads d too early and drops the
// value.
#pragma once

#include "async_proxy.hpp"
#include "intrinsics.hpp"
#include "warp.hpp"

namespace emulation {

constexpr unsigned MOST_PRODUCTS = 64;       // of a warpgroup, that may be in flight
constexpr unsigned MOST_INSTRUCTIONS = 512;  // from one wait to the next
constexpr unsigned MOST_SUMS = 32;           // of a lane: four for each eight columns
constexpr unsigned IN_FLIGHT = 0x7fa5a5a5;   // a signalling NaN

using Register [[gnu::may_alias]] = unsigned;

// What the lanes of a warpgroup must agree on.
struct Instruction {
  const char* name;
  Place place;
  unsigned number;  // of a product's columns, in eights; of a wait's groups
  bool add;
  const float* b;

  unsigned lanes;    // that have come
  unsigned product;  // slot

  EMULATION_UNSEEN bool operator==(const Instruction& other) const {
    return name == other.name && place.line() == other.place.line() && place.file_name() == other.place.file_name() &&
           number == other.number && add == other.add && b == other.b;
  }
};

struct Product {
  Instruction instruction;
  unsigned group, accumulator;
  bool takes_d;  // as it is in registers: no product before it has it in flight
  const unsigned* a[WARPGROUP];
  unsigned a_before[WARPGROUP][4], b_before[8 * 2 * MOST_SUMS];  // as they were at the beginning
};

// Sums that products in flight, all of the same d, are added to.
struct Accumulator {
  unsigned columns, products;
  float* d[WARPGROUP];
  float sums[WARPGROUP / 2][2 * MOST_SUMS];  // rows and columns of d

  // d[i] of a lane.
  EMULATION_UNSEEN float& sum(unsigned lane, unsigned i) {
    return sums[lane / WARP * 16 + lane % WARP / 4 + i / 2 % 2 * 8][i / 4 * 8 + lane % 4 * 2 + i % 2];
  }
};

struct WarpgroupMemory {
  Instruction instructions[MOST_INSTRUCTIONS];
  Product products[MOST_PRODUCTS];
  Accumulator accumulators[MOST_PRODUCTS];
  alignas(PAGE) char fenced[WARPGROUP][STACK_BYTES];  // the lanes' stacks at their last wgmma.fence
};

// The lane that runs, its warpgroup, and where that keeps its products.
struct Lane {
  Block& block;
  Thread& thread;
  Warpgroup& group;
  WarpgroupMemory& memory;
  unsigned number;

  EMULATION_UNSEEN static Lane here() {
    auto [block, thread] = emulation::here();
    const unsigned group = thread->number / WARPGROUP;
    return {*block, *thread, block->warpgroups[group], block->warpgroup_memory[group], thread->number % WARPGROUP};
  }

  // Lanes of the same warpgroup.
  EMULATION_UNSEEN Thread& other(unsigned lane) const { return (&thread - number)[lane]; }
};

[[noreturn]] EMULATION_UNSEEN __attribute__((noinline)) inline void refuse(const Thread& thread,
                                                                           const Instruction& instruction,
                                                                           const char* problem) {
  here().block->fail("thread %u, %s in %s(%u): %s", thread.number, instruction.name, instruction.place.file_name(),
                     instruction.place.line(), problem);
}

// Registers are compared and copied word by word: the sanitizers would look at what memcpy does.
EMULATION_UNSEEN EMULATION_UNCHECKED __attribute__((noinline)) inline bool same_words(const void* a, const void* b,
                                                                                      unsigned count) {
  unsigned different = 0;
  for (unsigned i = 0; i < count; i++)
    different |= static_cast<const Register*>(a)[i] ^ static_cast<const Register*>(b)[i];
  return different == 0;
}

EMULATION_UNSEEN EMULATION_UNCHECKED __attribute__((noinline)) inline void copy_words(void* __restrict__ to,
                                                                                      const void* __restrict__ from,
                                                                                      unsigned count) {
  for (unsigned i = 0; i < count; i++) static_cast<Register*>(to)[i] = static_cast<const Register*>(from)[i];
}

// Come to the next instruction, the same as the lanes before.
EMULATION_UNSEEN inline Instruction& come(const Lane& lane, const Instruction& mine) {
  Warpgroup& group = lane.group;
  const unsigned first = lane.thread.number - lane.number;
  if (first + WARPGROUP > lane.block.size) refuse(lane.thread, mine, "its warpgroup has not all of its 128 threads");
  for (unsigned warp = first / WARP; warp < (first + WARPGROUP) / WARP; warp++)
    if (lane.block.warps[warp].ended) refuse(lane.thread, mine, "threads of its warpgroup have ended");
  if (lane.thread.instructions == MOST_INSTRUCTIONS)
    refuse(lane.thread, mine, "the emulated device has no room for so many instructions without a wait");
  Instruction& agreed = lane.memory.instructions[lane.thread.instructions++];
  if (lane.thread.instructions > group.instructions) {
    group.instructions++;
    agreed = mine;
  } else if (!(agreed == mine)) {
    lane.block.fail("thread %u is at %s in %s(%u) while others of its warpgroup are at %s in %s(%u)%s",
                    lane.thread.number, mine.name, mine.place.file_name(), mine.place.line(), agreed.name,
                    agreed.place.file_name(), agreed.place.line(),
                    agreed.b == mine.b ? "" : ", of another shared operand");
  }
  agreed.lanes++;
  return agreed;
}

// Where wgmma.fence kept these registers; null if they were not there yet.
EMULATION_UNSEEN inline Register* fenced(const Lane& lane, unsigned number, const void* registers) {
  const Thread& thread = lane.other(number);
  const size_t offset = static_cast<const char*>(registers) - thread.fiber.stack;
  if (thread.fenced_from == 0 || offset < thread.fenced_from || offset >= STACK_BYTES) return nullptr;
  return reinterpret_cast<Register*>(lane.memory.fenced[number] + offset);
}

EMULATION_UNSEEN inline void require_fence(const Lane& lane, const Instruction& instruction, const void* registers,
                                           unsigned count, const char* problem) {
  if (lane.thread.fenced_from == 0) refuse(lane.thread, instruction, "no wgmma_fence before its first product");
  const size_t offset = static_cast<const char*>(registers) - lane.thread.fiber.stack;
  if (offset >= STACK_BYTES) return;  // AddressSanitizer may keep arrays elsewhere
  const Register* const then = fenced(lane, lane.number, registers);
  if (!then || !same_words(then, registers, count)) refuse(lane.thread, instruction, problem);
}

EMULATION_UNSEEN inline void require_published(const Lane& lane, const Instruction& instruction) {
  const SharedMemory& memory = *lane.block.shared;
  const size_t offset = memory.offset(instruction.b);
  const unsigned count = 64 * instruction.number;
  if (offset % 16 || offset >= memory.end || offset + count * WORD > memory.end)
    refuse(lane.thread, instruction, "its b is not in shared memory, or not 16-byte aligned");
  for (unsigned i = 0; i < count; i++)
    if (const Thread* const writer = unpublished_writer(lane.block, instruction.b + i))
      lane.block.fail(
          "thread %u, %s in %s(%u): byte %u of its b, at %u of shared memory, was written by thread %u without a "
          "fence_async of that thread and a barrier since",
          lane.thread.number, instruction.name, instruction.place.file_name(), instruction.place.line(), i * WORD,
          static_cast<unsigned>(offset + i * WORD), writer->number);
}

// Which accumulator has this d: one in flight, or a new one.
EMULATION_UNSEEN inline unsigned find_accumulator(const Lane& lane, const float* d) {
  unsigned slot = lane.group.accumulators;
  for (unsigned i = 0; i < lane.group.accumulators; i++) {
    const Accumulator& accumulator = lane.memory.accumulators[i];
    if (accumulator.products == 0)
      slot = i;
    else if (accumulator.d[lane.number] == d)
      return i;
  }
  if (slot == lane.group.accumulators) lane.memory.accumulators[lane.group.accumulators++].products = 0;
  return slot;
}

// What the first lane does for all.
EMULATION_UNSEEN inline void begin_product(const Lane& lane, Instruction& instruction, const float* d) {
  require_published(lane, instruction);
  Warpgroup& group = lane.group;
  if (group.products_queued == MOST_PRODUCTS)
    refuse(lane.thread, instruction, "the emulated device has no room for so many products in flight");
  instruction.product = (group.first_product + group.products_queued++) % MOST_PRODUCTS;
  Product& product = lane.memory.products[instruction.product];
  product.instruction = instruction;
  product.group = group.product_groups;
  product.accumulator = find_accumulator(lane, d);
  copy_words(product.b_before, instruction.b, 64 * instruction.number);
  Accumulator& accumulator = lane.memory.accumulators[product.accumulator];
  product.takes_d = accumulator.products++ == 0;
  if (product.takes_d) accumulator.columns = instruction.number;
  if (accumulator.columns != instruction.number)
    refuse(lane.thread, instruction, "its d is in flight in a product of another shape");
}

// Let ThreadSanitizer know that the warpgroup reads b: a lane of each warp, so that none is its only writer.
EMULATION_UNTRACED __attribute__((noinline)) inline void show_read(const volatile float* b, unsigned count) {
  for (unsigned i = 0; i < count; i++) static_cast<void>(b[i]);
}

EMULATION_UNSEEN __attribute__((noinline)) inline void start_product(float* d, const unsigned* a,
                                                                     const Instruction& mine) {
  const Lane lane = Lane::here();
  Instruction& instruction = come(lane, mine);
  if (instruction.lanes == 1) begin_product(lane, instruction, d);
  Product& product = lane.memory.products[instruction.product];
  require_fence(lane, instruction, a, 4, "its a was written after the last wgmma_fence");
  product.a[lane.number] = a;
  copy_words(product.a_before[lane.number], a, 4);
  Accumulator& accumulator = lane.memory.accumulators[product.accumulator];
  if (product.takes_d) {
    require_fence(lane, instruction, d, 4 * instruction.number, "its d was written after the last wgmma_fence");
    accumulator.d[lane.number] = d;
    for (unsigned i = 0; i < 4 * instruction.number; i++) copy_words(&accumulator.sum(lane.number, i), d + i, 1);
    for (unsigned i = 0; i < 4 * instruction.number; i++) reinterpret_cast<Register*>(d)[i] = IN_FLIGHT;
  } else if (accumulator.d[lane.number] != d) {
    refuse(lane.thread, instruction, "its d is not that of the other lanes");
  }
  if (RACES_SOUGHT && lane.number % WARP == 0) show_read(instruction.b, 64 * instruction.number);
  note_collective(instruction.name, 1u << lane.number % WARP);
}

// Refuse what was written while a product was in flight.
EMULATION_UNSEEN inline void require_untouched(const Lane& lane, const Product& product) {
  const Instruction& instruction = product.instruction;
  const Accumulator& accumulator = lane.memory.accumulators[product.accumulator];
  unsigned in_flight[MOST_SUMS];
  for (unsigned& each : in_flight) each = IN_FLIGHT;
  for (unsigned each = 0; each < WARPGROUP; each++) {
    if (!same_words(product.a[each], product.a_before[each], 4))
      refuse(lane.other(each), instruction, "its a was written before it was waited for");
    if (!same_words(accumulator.d[each], in_flight, 4 * accumulator.columns))
      refuse(lane.other(each), instruction, "its d was written before it was waited for");
  }
  if (!same_words(instruction.b, product.b_before, 64 * instruction.number))
    refuse(lane.thread, instruction, "its b was written while it was in flight");
}

// Layouts are in kernels/include/wgmma.cuh. As in mma.sync, eight products are summed before they are added to d.
EMULATION_UNSEEN inline void multiply(const Product& product, Accumulator& accumulator) {
  auto tf32 = [](unsigned bits) EMULATION_UNSEEN { return bits_as<float>(bits & 0xffffe000); };
  const unsigned columns = 8 * accumulator.columns;
  float b[8][2 * MOST_SUMS];
  for (unsigned k = 0; k < 8; k++)
    for (unsigned column = 0; column < columns; column++)
      b[k][column] = tf32(product.b_before[column / 8 * 64 + k / 4 * 32 + column % 8 * 4 + k % 4]);
  for (unsigned row = 0; row < WARPGROUP / 2; row++) {
    const unsigned first_lane = row / 16 * WARP + row % 8 * 4;
    float a[8];
    for (unsigned k = 0; k < 8; k++) a[k] = tf32(product.a_before[first_lane + k % 4][row / 8 % 2 + k / 4 * 2]);
    float* const sums = accumulator.sums[row];
    for (unsigned column = 0; column < columns; column++) {
      float sum = 0;
      for (unsigned k = 0; k < 8; k++) sum = fmaf(a[k], b[k][column], sum);
      sums[column] = product.instruction.add ? sums[column] + sum : sum;
    }
  }
}

// Write the sums to d; where wgmma.fence kept it too, since no thread has accessed it.
EMULATION_UNSEEN inline void deliver(const Lane& lane, Accumulator& accumulator) {
  for (unsigned each = 0; each < WARPGROUP; each++) {
    float* const d = accumulator.d[each];
    for (unsigned i = 0; i < 4 * accumulator.columns; i++) copy_words(d + i, &accumulator.sum(each, i), 1);
    if (Register* const then = fenced(lane, each, d)) copy_words(then, d, 4 * accumulator.columns);
  }
}

// Compute the products of all but the last `groups` closed groups.
EMULATION_UNSEEN inline void finish_products(const Lane& lane, unsigned groups) {
  Warpgroup& group = lane.group;
  for (; group.products_queued; group.products_queued--) {
    const Product& product = lane.memory.products[group.first_product];
    if (product.group + groups >= group.product_groups) break;
    require_untouched(lane, product);
    Accumulator& accumulator = lane.memory.accumulators[product.accumulator];
    multiply(product, accumulator);
    if (--accumulator.products == 0) deliver(lane, accumulator);
    group.first_product = (group.first_product + 1) % MOST_PRODUCTS;
  }
}

// The kernel's arrays are in memory around an instruction, as others read and write them.
inline void settle_arrays() { asm volatile("" ::: "memory"); }

inline void wgmma(float* d, unsigned columns, bool add, const unsigned (&a)[4], const float* b, Place place) {
  const char* const name = columns == 2 ? "wgmma m64n16k8" : columns == 4 ? "wgmma m64n32k8" : "wgmma m64n64k8";
  settle_arrays();
  start_product(d, a, {name, place, columns, add, b, 0, 0});
  settle_arrays();
}

EMULATION_UNSEEN __attribute__((noinline)) inline void keep_registers(Place place) {
  const Lane lane = Lane::here();
  come(lane, {"wgmma.fence", place, 0, false, nullptr, 0, 0});
  char* const stack = lane.thread.fiber.stack;
  const unsigned from = (stack_pointer() - reinterpret_cast<uintptr_t>(stack)) / WORD * WORD;
  lane.thread.fenced_from = from;
  copy_words(lane.memory.fenced[lane.number] + from, stack + from, (lane.block.stack_top(stack) - stack - from) / WORD);
}

inline void wgmma_fence(Place place) {
  settle_arrays();
  keep_registers(place);
}

EMULATION_UNSEEN __attribute__((noinline)) inline void wgmma_commit(Place place) {
  const Lane lane = Lane::here();
  if (come(lane, {"wgmma.commit_group", place, 0, false, nullptr, 0, 0}).lanes == 1) lane.group.product_groups++;
}

// The last lane to come computes what has been waited for.
EMULATION_UNSEEN __attribute__((noinline)) inline void meet(unsigned groups, Place place) {
  const Lane lane = Lane::here();
  lane.thread.call = come(lane, {"wgmma.wait_group", place, groups, false, nullptr, 0, 0}).name;
  lane.thread.place = place;
  lane.thread.mask = 0;
  if (++lane.group.waiting < WARPGROUP) {
    lane.block.states[lane.thread.number] = State::in_collective;
    lane.block.wait(lane.thread);
    return;
  }
  finish_products(lane, groups);
  lane.group.waiting = lane.group.instructions = 0;
  for (unsigned each = 0; each < WARPGROUP; each++) {
    lane.other(each).instructions = 0;
    lane.block.states[lane.other(each).number] = State::ready;
  }
}

inline void wgmma_wait(unsigned groups, Place place) {
  settle_arrays();
  meet(groups, place);
  settle_arrays();
}

}  // namespace emulation
