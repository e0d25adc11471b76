// Warp collectives: shuffles, votes, reductions, __syncwarp.
//
// Each lane of the mask leaves its operand on its own stack and waits; the last one to come computes what every lane
// gets. All must have the same mask and be at the same place: CUDA leaves undefined what happens if not.
#pragma once

#include "block.hpp"

namespace emulation {

// Register a lane; true if it is the last of its mask.
EMULATION_UNSEEN __attribute__((noinline)) inline bool join(const char* call, unsigned mask, void* operand,
                                                            Place place) {
  auto [block, thread] = here();
  Warp& warp = block->warps[thread->warp()];
  const unsigned lane = thread->lane();
  const char* const problem = !(mask >> lane & 1)  ? "which leaves this lane out"
                              : mask & ~warp.lanes ? "which names lanes that the warp does not have"
                              : mask & warp.ended  ? "which names lanes that have ended"
                                                   : nullptr;
  if (problem)
    block->fail("thread %u calls %s with mask 0x%08x, %s, in %s(%u)", thread->number, call, mask, problem,
                place.file_name(), place.line());
  thread->call = call;
  thread->mask = mask;
  thread->operand = operand;
  thread->place = place;
  warp.waiting |= 1u << lane;
  if (mask & ~warp.waiting) return false;
  const Thread* lanes = thread - lane;
  for (unsigned other = 0; other < WARP; other++) {
    if (!(mask >> other & 1)) continue;
    const Thread& it = lanes[other];
    if (it.mask != mask || it.call != call || it.place.line() != place.line())
      block->fail("thread %u calls %s with mask 0x%08x in %s(%u), but thread %u calls %s with mask 0x%08x in %s(%u)",
                  thread->number, call, mask, place.file_name(), place.line(), it.number, it.call, it.mask,
                  it.place.file_name(), it.place.line());
  }
  return true;
}

// Let the lanes of a mask meet; `finish(operands, mask)`, called by the last one, fills in their results.
template <class Operand, class Finish>
EMULATION_UNSEEN __attribute__((noinline)) void collective(const char* call, unsigned mask, Operand& mine,
                                                           Finish finish, Place place) {
  auto [block, thread] = here();
  if (!join(call, mask, &mine, place)) {
    block->states[thread->number] = State::in_collective;
    block->wait(*thread);
    return;
  }
  Thread* lanes = thread - thread->lane();
  Operand* operands[WARP];
  for (unsigned lane = 0; lane < WARP; lane++) operands[lane] = static_cast<Operand*>(lanes[lane].operand);
  finish(operands, mask);
  note_collective(call, mask);
  for (unsigned lane = 0; lane < WARP; lane++)
    if (mask >> lane & 1) block->states[lanes[lane].number] = State::ready;
  block->warps[thread->warp()].waiting &= ~mask;
}

template <class T>
struct Shuffled {
  T value;
  unsigned source;
  T result;
};

// Each lane gets the value of the lane that it asks for.
template <class T>
EMULATION_UNSEEN __attribute__((noinline)) T shuffle(const char* call, unsigned mask, T value, unsigned source,
                                                     Place place) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles take values of 4 or 8 bytes");
  auto [block, thread] = here();
  if (!(mask >> source & 1))
    block->fail("thread %u calls %s to read lane %u, which is not in the mask 0x%08x, in %s(%u)", thread->number, call,
                source, mask, place.file_name(), place.line());
  Shuffled<T> mine{value, source, value};
  collective(
      call, mask, mine,
      [](Shuffled<T>** lanes, unsigned mask) EMULATION_UNSEEN {
        for (unsigned lane = 0; lane < WARP; lane++)
          if (mask >> lane & 1) lanes[lane]->result = lanes[lanes[lane]->source]->value;
      },
      place);
  return mine.result;
}

// All lanes get `combine` of all their values.
template <class T, class Combine>
EMULATION_UNSEEN __attribute__((noinline)) T reduce(const char* call, unsigned mask, T value, Combine combine,
                                                    Place place) {
  collective(
      call, mask, value,
      [combine](T** lanes, unsigned mask) EMULATION_UNSEEN {
        T total = *lanes[__builtin_ctz(mask)];
        for (unsigned rest = mask & (mask - 1); rest; rest &= rest - 1)
          total = combine(total, *lanes[__builtin_ctz(rest)]);
        for (unsigned rest = mask; rest; rest &= rest - 1) *lanes[__builtin_ctz(rest)] = total;
      },
      place);
  return value;
}

}  // namespace emulation

inline unsigned __ballot_sync(unsigned mask, int predicate, emulation::Place place = emulation::Place::current()) {
  const unsigned bit = predicate ? 1u << emulation::here().thread->lane() : 0;
  return emulation::reduce("__ballot_sync", mask, bit, [](unsigned a, unsigned b) { return a | b; }, place);
}

inline int __any_sync(unsigned mask, int predicate, emulation::Place place = emulation::Place::current()) {
  return emulation::reduce("__any_sync", mask, predicate != 0, [](bool a, bool b) { return a || b; }, place);
}

inline int __all_sync(unsigned mask, int predicate, emulation::Place place = emulation::Place::current()) {
  return emulation::reduce("__all_sync", mask, predicate != 0, [](bool a, bool b) { return a && b; }, place);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = emulation::WARP,
              emulation::Place place = emulation::Place::current()) {
  const int lane = emulation::here().thread->lane();
  return emulation::shuffle("__shfl_sync", mask, value, (lane & -width) | (source & (width - 1)), place);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = emulation::WARP,
                 emulation::Place place = emulation::Place::current()) {
  const int lane = emulation::here().thread->lane(), source = lane - static_cast<int>(delta);
  return emulation::shuffle("__shfl_up_sync", mask, value, source < (lane & -width) ? lane : source, place);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = emulation::WARP,
                   emulation::Place place = emulation::Place::current()) {
  const int lane = emulation::here().thread->lane(), source = lane + static_cast<int>(delta);
  return emulation::shuffle("__shfl_down_sync", mask, value, source > (lane | (width - 1)) ? lane : source, place);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = emulation::WARP,
                  emulation::Place place = emulation::Place::current()) {
  const int lane = emulation::here().thread->lane(), source = lane ^ bits;
  return emulation::shuffle("__shfl_xor_sync", mask, value, source > (lane | (width - 1)) ? lane : source, place);
}

// Besides waiting it orders the memory accesses of the lanes, which the other collectives do not.
EMULATION_UNSEEN inline void __syncwarp(unsigned mask = ~0u, emulation::Place place = emulation::Place::current()) {
  auto [block, thread] = emulation::here();
  emulation::Meeting& meeting = block->warps[thread->warp()].meeting;
  int nothing = 0;
  meeting.come();
  emulation::collective(
      "__syncwarp", mask, nothing, [&](int**, unsigned) EMULATION_UNSEEN { meeting.complete(); }, place);
  meeting.go();
}

#define EMULATION_REDUCTION(name, T, expression)                                                   \
  inline T name(unsigned mask, T value, emulation::Place place = emulation::Place::current()) {    \
    return emulation::reduce(#name, mask, value, [](T a, T b) -> T { return expression; }, place); \
  }
EMULATION_REDUCTION(__reduce_add_sync, unsigned, a + b)
EMULATION_REDUCTION(__reduce_add_sync, int, static_cast<unsigned>(a) + static_cast<unsigned>(b))
EMULATION_REDUCTION(__reduce_min_sync, unsigned, b < a ? b : a)
EMULATION_REDUCTION(__reduce_min_sync, int, b < a ? b : a)
EMULATION_REDUCTION(__reduce_max_sync, unsigned, a < b ? b : a)
EMULATION_REDUCTION(__reduce_max_sync, int, a < b ? b : a)
EMULATION_REDUCTION(__reduce_and_sync, unsigned, a & b)
EMULATION_REDUCTION(__reduce_or_sync, unsigned, a | b)
EMULATION_REDUCTION(__reduce_xor_sync, unsigned, a ^ b)
#undef EMULATION_REDUCTION
