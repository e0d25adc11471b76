// A launch: its blocks, shared out among threads of the host, and the table of kernels that Python reads.
#pragma once

#include <algorithm>
#include <numeric>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "async_copy.hpp"
#include "shared.hpp"

namespace emulation {

// All that a thread of the host needs to run blocks. Python lends the memory, at first zeros, to one launch after
// the other; the pages that no kernel touches are never there.
struct Worker {
  Block block;
  Copy copies[MOST_THREADS][MOST_COPIES];
  SharedMemory shared;
  alignas(STACK_BYTES) char stacks[MOST_THREADS][STACK_BYTES];

  EMULATION_UNSEEN void run(Launch& launch, void (*kernel)(void**), unsigned long long number) {
    const uint3 grid = launch.grid;
    block.launch = &launch;
    block.kernel = kernel;
    block.index = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                   static_cast<unsigned>(number / grid.x / grid.y)};
    block.stacks = stacks[0];
    block.shared = &shared;
    block.copies = copies;
    forget_accesses(&shared, sizeof shared);
    forget_accesses(stacks, sizeof stacks);
    shared.reset(launch.shared_bytes);
    block.run(launch.seed * 0x1'0000'0001ull + number);
  }
};

// Run all blocks in the launch's order, as far as several workers keep one.
EMULATION_UNSEEN inline void run(Launch& launch, void (*kernel)(void**)) {
  const unsigned long long blocks = 1ull * launch.grid.x * launch.grid.y * launch.grid.z;
  unsigned long long stride = 1, offset = 0;  // in random order a walk that meets each block once
  if (launch.order == Order::random) {
    offset = launch.seed % blocks;
    stride = launch.seed * 0x9e3779b97f4a7c15 % blocks + 1;
    while (std::gcd(stride, blocks) != 1) stride++;
  }
  std::atomic<unsigned long long> next{0};
  auto work = [&](unsigned worker) {
    Worker& mine = static_cast<Worker*>(launch.memory)[worker];
    for (;;) {
      const unsigned long long turn = next++;
      if (turn >= blocks || launch.failed) break;
      mine.run(launch, kernel, launch.order == Order::reverse ? blocks - 1 - turn : (offset + turn * stride) % blocks);
    }
  };
  std::vector<std::jthread> others;
  for (unsigned worker = 1; worker < std::min<unsigned long long>(launch.workers, blocks); worker++)
    others.emplace_back(work, worker);
  work(0);
  others.clear();
  acquire(&launch);
}

// Three letters for a parameter: V or P (value or pointer), then kind and size of the number as NumPy has them, or ?0.
template <class T>
constexpr char kind_of() {
  if constexpr (std::is_same_v<T, bool>) return 'b';
  if constexpr (std::is_floating_point_v<T>) return 'f';
  if constexpr (std::is_integral_v<T>) return std::is_unsigned_v<T> ? 'u' : 'i';
  return '?';
}
template <class T>
constexpr char size_of() {
  if constexpr (std::is_arithmetic_v<T>) return '0' + sizeof(T);
  return '0';
}
template <class T, class Number = std::remove_cv_t<std::remove_pointer_t<T>>>
struct Code {
  static constexpr char place = std::is_pointer_v<T> ? 'P' : 'V', kind = kind_of<Number>(), size = size_of<Number>();
};

struct Entry {
  const char* name;
  const char* parameters;
  unsigned most_threads;
  void (*run)(Launch& launch);
};

template <auto kernel>
struct Kernel;

template <class... Parameters, void (*kernel)(Parameters...)>
struct Kernel<kernel> {
  static constexpr char text[][3] = {{Code<Parameters>::place, Code<Parameters>::kind, Code<Parameters>::size}..., {}};

  static void call(void** arguments) {
    [arguments]<size_t... I>(std::index_sequence<I...>) {
      kernel(*static_cast<std::remove_cv_t<Parameters>*>(arguments[I])...);
    }(std::index_sequence_for<Parameters...>{});
  }

  static constexpr Entry entry(const char* name, unsigned most_threads) {
    return {name, text[0], most_threads, [](Launch& launch) { emulation::run(launch, call); }};
  }
};

}  // namespace emulation

#define EMULATION_KERNEL(name, most_threads) emulation::Kernel<name>::entry(#name, most_threads)
#define EMULATION_TABLE(...)                                                                                     \
  extern "C" __attribute__((visibility("default"))) const emulation::Entry emulation_kernels[];                  \
  const emulation::Entry emulation_kernels[] = {__VA_ARGS__, {}};                                                \
  extern "C" __attribute__((visibility("default"))) const size_t emulation_worker_bytes[];                       \
  const size_t emulation_worker_bytes[] = {sizeof(emulation::Worker), alignof(emulation::Worker)};
