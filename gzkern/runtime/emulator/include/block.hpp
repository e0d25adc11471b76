// A block: its threads, who runs next, barriers.
//
// One thread of the host runs a block. A CUDA thread runs until it must wait for others; then the next one that can
// run goes on, on a stack of its own. A thread that ends leaves its stack to the next one that has not begun, so that
// a kernel without barriers is a plain loop over its threads.
//
// The order of the threads is the launch's: a kernel that lacks a barrier gives different results in different
// orders. A random order is drawn anew each time that every thread has had its turn.
#pragma once

#include <source_location>

#include "fiber.hpp"
#include "launch.hpp"

namespace emulation {

using Place = std::source_location;

constexpr unsigned MOST_THREADS = 1024, WARP = 32, WARPGROUP = 4 * WARP;
constexpr size_t STACK_BYTES =
    ADDRESSES_CHECKED || TRACED ? 256 << 10 : 64 << 10;  // compiler.py bounds functions' frames by it

constexpr unsigned MOST_COPIES = 128;  // that a thread may have under way
struct Copy;
struct SharedMemory;
struct WarpgroupMemory;
struct Worker;

enum class State : unsigned char { unstarted, ready, at_barrier, in_collective, ended };

struct Thread {
  uint3 index;
  unsigned number;  // in its block
  Fiber fiber;

  // Where it waits: for the block, or for the lanes `mask` of its warp, or without one for its warpgroup, with what it
  // gives to `call` and gets from it.
  Place place;
  const char* call;
  unsigned mask;
  void* operand;

  unsigned first_copy, copies_queued, copy_groups;  // of its queue; groups that it has closed

  unsigned instructions;  // of its warpgroup that it has come to since the last wait
  unsigned fenced_from;   // what wgmma_fence kept of its stack begins so far above the bottom; 0: nothing yet

  unsigned lane() const { return number % WARP; }
  unsigned warp() const { return number / WARP; }
};

// Where threads meet, as ThreadSanitizer must know it. The last one to come hands on what all have done, so that
// nobody who leaves late is thought to know what others have done since.
struct Meeting {
  char arrivals, departures;

  EMULATION_UNSEEN void come() { release(&arrivals); }
  EMULATION_UNSEEN void complete() {
    acquire(&arrivals);
    release(&departures);
  }
  EMULATION_UNSEEN void go() { acquire(&departures); }
};

struct Warp {
  unsigned lanes;    // that it has
  unsigned waiting;  // in a collective
  unsigned ended;
  Meeting meeting;  // of __syncwarp
};

struct Warpgroup {
  unsigned waiting;       // lanes
  unsigned instructions;  // that the first lane to come has come to since the last wait
  unsigned first_product, products_queued, product_groups;
  unsigned accumulators;  // slots that were in use
};

struct Block {
  Launch* launch;
  void (*kernel)(void** arguments);
  uint3 index;
  char* stacks;
  SharedMemory* shared;
  Copy (*copies)[MOST_COPIES];  // queues, by thread
  WarpgroupMemory* warpgroup_memory;

  unsigned size, alive;
  Thread threads[MOST_THREADS];
  State states[MOST_THREADS];
  Warp warps[MOST_THREADS / WARP];
  Warpgroup warpgroups[MOST_THREADS / WARPGROUP];
  unsigned fences[MOST_THREADS], published[MOST_THREADS];  // fence_async of each thread, all and those before a barrier
  Fiber host;

  unsigned order[MOST_THREADS], turn;
  bool progress;  // somebody has run since turn was 0
  unsigned long long random;

  unsigned at_barrier;
  Place barrier;
  int votes, result;  // true predicates of the barrier that fills, and of the last one
  Meeting meeting;

  unsigned stacks_used, free_stacks[MOST_THREADS], free_count;

  void begin(Launch& launch, void (*kernel)(void**), Worker& worker);
  void run(unsigned long long number);
  Thread* next();
  void wait(Thread& from);
  void leave(Fiber& from, Thread* to, bool for_ever);
  void start(Thread& thread);
  void give_stack(Thread& thread, char* stack);
  char* stack_top(char* bottom) const;
  void shuffle();
  void report_deadlock();
  [[noreturn]] void abandon();

  // Give the launch up, from a thread.
  template <class... Values>
  [[noreturn]] EMULATION_UNSEEN void fail(const char* format, Values... values) {
    launch->fail(index, format, values...);
    abandon();
  }
};

// At the bottom of each stack: who runs on it. Stacks are aligned to their size, so a thread finds this from its stack
// pointer, and no variable has to follow the switches.
struct Here {
  Block* block;
  Thread* thread;
};

inline Here& here() { return *reinterpret_cast<Here*>(stack_pointer() & -STACK_BYTES); }

// The next thread that can run; none when the block has ended or failed.
EMULATION_UNSEEN inline Thread* Block::next() {
  for (;;) {
    while (turn < size) {
      const unsigned number = order[turn++];
      if (states[number] <= State::ready) {
        progress = true;
        return &threads[number];
      }
    }
    if (alive == 0 || launch->failed()) return nullptr;
    if (at_barrier == size) {
      meeting.complete();
      end_requests(*this);
      at_barrier = 0;
      result = votes;
      votes = 0;
      for (unsigned number = 0; number < size; number++) {
        states[number] = State::ready;
        published[number] = fences[number];
      }
    } else if (!progress) {
      report_deadlock();
      return nullptr;
    }
    turn = 0;
    progress = false;
    if (launch->order == Order::random) shuffle();
  }
}

// Let others run until `from` can go on.
EMULATION_UNSEEN inline void Block::wait(Thread& from) {
  Thread* to = next();
  if (to != &from) leave(from.fiber, to, false);
}

// Switch to a thread, which may not have begun, or to the host.
EMULATION_UNSEEN inline void Block::leave(Fiber& from, Thread* to, bool for_ever) {
  if (to && states[to->number] == State::unstarted) start(*to);
  switch_fiber(from, to ? to->fiber : host, for_ever);
}

// What every stack begins with: run a thread, then those that have not begun, as long as they are next.
[[noreturn]] EMULATION_UNSEEN inline void thread_entry() {
  Block& block = *here().block;
  arrived(here().thread->fiber, block.host.stack ? nullptr : &block.host);
  for (;;) {
    block.kernel(block.launch->arguments);
    Thread& thread = *here().thread;
    block.states[thread.number] = State::ended;
    block.alive--;
    block.warps[thread.warp()].ended |= 1u << thread.lane();
    Thread* to = block.next();
    const bool unstarted = to && block.states[to->number] == State::unstarted;
    if (unstarted && !RACES_SOUGHT) {
      block.give_stack(*to, thread.fiber.stack);
    } else {
      if (!RACES_SOUGHT) block.free_stacks[block.free_count++] = (thread.fiber.stack - block.stacks) / STACK_BYTES;
      block.leave(thread.fiber, to, true);
    }
  }
}

EMULATION_UNSEEN inline void Block::start(Thread& thread) {
  const unsigned stack = free_count ? free_stacks[--free_count] : stacks_used++;
  char* bottom = stacks + stack * STACK_BYTES;
  allow(bottom, STACK_BYTES);
  give_stack(thread, bottom);
  prepare(thread.fiber.context, bottom, stack_top(bottom), thread_entry);
}

// Stacks begin at different offsets, lest all of them compete for the same lines of the caches.
EMULATION_UNSEEN inline char* Block::stack_top(char* bottom) const {
  return bottom + STACK_BYTES - (bottom - stacks) / STACK_BYTES % 32 * 320;
}

EMULATION_UNSEEN inline void Block::give_stack(Thread& thread, char* stack) {
  *reinterpret_cast<Here*>(stack) = {this, &thread};
  thread.first_copy = thread.copies_queued = thread.copy_groups = 0;
  thread.instructions = thread.fenced_from = 0;
  thread.fiber.stack = stack;
  thread.fiber.stack_bytes = STACK_BYTES;
  states[thread.number] = State::ready;
}

// Wait for all threads of the block; returns how many of them came with a true predicate.
EMULATION_UNSEEN __attribute__((noinline)) inline int barrier(bool predicate, Place place) {
  auto [block, thread] = here();
  if (block->at_barrier == 0) block->barrier = place;
  if (block->barrier.line() != place.line() || block->barrier.file_name() != place.file_name())
    block->fail("thread %u is at __syncthreads in %s(%u) while others are at that in %s(%u)", thread->number,
                place.file_name(), place.line(), block->barrier.file_name(), block->barrier.line());
  block->at_barrier++;
  block->votes += predicate;
  block->states[thread->number] = State::at_barrier;
  block->meeting.come();
  block->wait(*thread);
  block->meeting.go();
  return block->result;
}

// Run all threads of a block, on the stack of the host.
EMULATION_UNSEEN inline void Block::run(unsigned long long number) {
  const uint3 grid = launch->grid;
  index = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
           static_cast<unsigned>(number / grid.x / grid.y)};
  forget_accesses(stacks, stacks_used * STACK_BYTES);
  alive = size;
  turn = at_barrier = votes = stacks_used = free_count = 0;
  progress = false;
  random = (launch->seed + 1) * 0x9e3779b97f4a7c15 ^ (number + 1) * 0xd1b54a32d192ed03;
  for (unsigned thread = 0; thread < size; thread++) {
    states[thread] = State::unstarted;
    fences[thread] = published[thread] = 0;
    create_race_state(threads[thread].fiber);
  }
  for (unsigned first = 0; first < size; first += WARP)
    warps[first / WARP] = {size - first < WARP ? (1u << (size - first)) - 1 : ~0u, 0, 0, {}};
  for (unsigned first = 0; first < size; first += WARPGROUP) warpgroups[first / WARPGROUP] = {};
  if (launch->order == Order::random) shuffle();
  leave(host, next(), false);
  end_block(*this);
  for (unsigned thread = 0; thread < size; thread++) {
    switch_race_state(threads[thread].fiber);  // as that thread, whether it has ended or was abandoned
    release(launch);                           // order what it did before what the host does after the launch
    switch_race_state(host);
    destroy_race_state(threads[thread].fiber);
  }
}

EMULATION_UNSEEN inline void Block::shuffle() {
  for (unsigned last = size - 1; last > 0; last--) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    const unsigned other = (random >> 32) % (last + 1), number = order[last];
    order[last] = order[other];
    order[other] = number;
  }
}

EMULATION_UNSEEN inline void Block::report_deadlock() {
  unsigned waiting = 0;
  const Thread* example = nullptr;
  for (unsigned number = 0; number < size; number++) {
    if (states[number] != State::in_collective) continue;
    waiting++;
    example = &threads[number];
  }
  char barriers[160] = "", collectives[160] = "", whom[32] = "for their warpgroup";
  if (at_barrier)
    snprintf(barriers, sizeof barriers, ", %u wait at __syncthreads in %s(%u)", at_barrier, barrier.file_name(),
             barrier.line());
  if (example && example->mask) snprintf(whom, sizeof whom, "with mask 0x%08x", example->mask);
  if (example)
    snprintf(collectives, sizeof collectives, ", %u wait in %s %s in %s(%u)", waiting, example->call, whom,
             example->place.file_name(), example->place.line());
  launch->fail(index, "deadlock: of %u threads %u have ended%s%s", size, size - alive, barriers, collectives);
}

// Leave the threads of the block where they are: their stacks serve the next block.
EMULATION_UNSEEN inline void Block::abandon() {
  leave(here().thread->fiber, nullptr, true);
  __builtin_unreachable();
}

}  // namespace emulation
