// Workers: threads of the host that share out the blocks of a launch.
#pragma once

#include <pthread.h>
#include <time.h>

#include "async_copy.hpp"
#include "shared.hpp"
#include "warpgroup.hpp"

namespace emulation {

// What a worker runs blocks in. Python lends the memory, at first zeros, to one launch after the other; pages that no
// kernel touches are never there.
struct Worker {
  Block block;
  Copy copies[MOST_THREADS][MOST_COPIES];
  WarpgroupMemory warpgroups[MOST_THREADS / WARPGROUP];
  SharedMemory shared;
  alignas(STACK_BYTES) char stacks[MOST_THREADS][STACK_BYTES];
};

// Get ready for blocks of a launch.
EMULATION_UNSEEN inline void Block::begin(Launch& launch, void (*kernel)(void**), Worker& worker) {
  this->launch = &launch;
  this->kernel = kernel;
  stacks = worker.stacks[0];
  shared = &worker.shared;
  copies = worker.copies;
  warpgroup_memory = worker.warpgroups;
  const uint3 extent = launch.block;
  size = extent.x * extent.y * extent.z;
  for (unsigned number = 0; number < size; number++) {
    threads[number].index = {number % extent.x, number / extent.x % extent.y, number / extent.x / extent.y};
    threads[number].number = number;
    order[number] = launch.order == Order::reverse ? size - 1 - number : number;
  }
  host = {};
  adopt_host(host);
}

// The order of a launch's blocks; several workers keep it roughly.
struct Walk {
  unsigned long long blocks, first, stride;  // prime to `blocks`, so that each block is met once
  unsigned long long turn;
  const unsigned long long* chosen;  // null: all

  EMULATION_UNSEEN explicit Walk(const Launch& launch) : first(0), stride(1), turn(0), chosen(launch.chosen) {
    blocks = chosen ? launch.chosen_count : 1ull * launch.grid.x * launch.grid.y * launch.grid.z;
    if (launch.order == Order::reverse) first = stride = blocks - 1;
    if (launch.order == Order::random) {
      first = launch.seed % blocks;
      stride = launch.seed * 0x9e3779b97f4a7c15 % blocks;
      while (divisor(stride, blocks) != 1) stride++;
    }
  }

  EMULATION_UNSEEN static unsigned long long divisor(unsigned long long a, unsigned long long b) {
    return b ? divisor(b, a % b) : a;
  }

  // False when all have been met.
  EMULATION_UNSEEN bool next(unsigned long long& block) {
    const unsigned long long mine = __atomic_fetch_add(&turn, 1, __ATOMIC_RELAXED);
    block = (first + mine * stride) % blocks;
    if (chosen) block = chosen[block];
    return mine < blocks;
  }
};

struct Job {
  Launch* launch;
  void (*kernel)(void**);
  Walk* walk;
  Worker* worker;
  unsigned long long most;  // blocks to run
  pthread_t thread;
};

EMULATION_UNSEEN inline void* run_blocks(void* argument) {
  auto [launch, kernel, walk, worker, most, thread] = *static_cast<Job*>(argument);
  Block& block = worker->block;
  block.begin(*launch, kernel, *worker);
  for (unsigned long long number; most > 0 && !launch->failed() && walk->next(number); most--) {
    worker->shared.reset(launch->shared_bytes);
    block.run(number);
  }
  return nullptr;
}

EMULATION_UNSEEN inline double seconds() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

constexpr double WORTH_A_THREAD = 2e-4;  // seconds; to start one takes about half of that

// Run all blocks; with the help of others if the first one says that there is enough to do.
EMULATION_UNSEEN inline void run(Launch& launch, void (*kernel)(void**)) {
  begin_trace(launch);
  Walk walk(launch);
  Worker* workers = static_cast<Worker*>(launch.memory);
  Job mine{&launch, kernel, &walk, workers, 1, {}};
  const double begin = seconds();
  run_blocks(&mine);
  const double left = (seconds() - begin) * (walk.blocks - 1);
  Job others[256];
  unsigned helpers = 0;
  const unsigned most = launch.workers - 1 < 256 ? launch.workers - 1 : 256;
  while (helpers < most && helpers + 1 < walk.blocks && WORTH_A_THREAD * (helpers + 1) < left) {
    others[helpers] = {&launch, kernel, &walk, workers + helpers + 1, ~0ull, {}};
    if (pthread_create(&others[helpers].thread, nullptr, run_blocks, &others[helpers])) break;
    helpers++;
  }
  mine.most = ~0ull;
  run_blocks(&mine);
  for (unsigned helper = 0; helper < helpers; helper++) pthread_join(others[helper].thread, nullptr);
  acquire(&launch);
}

}  // namespace emulation
