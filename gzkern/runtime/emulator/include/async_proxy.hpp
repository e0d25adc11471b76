// The async proxy, by which wgmma reads shared memory: loads, stores and cp.async go by another way, the generic proxy.
//
// What a thread has stored or copied to shared memory is there for wgmma after that thread's fence_async and then a
// barrier. Every word keeps a stamp: who wrote it last, and how many fences that thread had executed until then. The
// barrier publishes the fences before it.
//
// Copies are stamped in every mode, ordinary stores and atomics in mode "trace" alone, where they are seen. The others do
// not see that a thread overwrites what another one has copied: there, who copies must execute a fence in any case.
//
// PTX lets any thread execute the fence that is ordered behind the writer; here it must be the writer.
#pragma once

#include "shared.hpp"

namespace emulation {

constexpr unsigned WRITER_BITS = 11;  // of a stamp: the writer's number + 1; the others are its fences

EMULATION_UNSEEN inline void stamp_write(const void* address, unsigned bytes) {
  auto [block, thread] = here();
  SharedMemory& memory = *block->shared;
  const size_t offset = memory.offset(address);
  const unsigned stamp = block->fences[thread->number] << WRITER_BITS | (thread->number + 1);
  for (size_t word = offset / WORD; word <= (offset + bytes - 1) / WORD; word++) memory.stamps[word] = stamp;
  memory.stamped = true;
}

// Who wrote a word that wgmma must not read yet; null if it may.
EMULATION_UNSEEN inline const Thread* unpublished_writer(const Block& block, const void* word) {
  const unsigned stamp = block.shared->stamps[block.shared->offset(word) / WORD];
  if (stamp == 0) return nullptr;
  const unsigned writer = (stamp & ((1u << WRITER_BITS) - 1)) - 1;
  return stamp >> WRITER_BITS < block.published[writer] ? nullptr : &block.threads[writer];
}

EMULATION_UNSEEN inline void fence_async() {
  auto [block, thread] = here();
  block->fences[thread->number]++;
}

}  // namespace emulation
