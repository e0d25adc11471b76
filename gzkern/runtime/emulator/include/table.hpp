// The table of a file's kernels that Python reads.
#pragma once

#include <type_traits>
#include <utility>

#include "worker.hpp"

namespace emulation {

struct Entry {
  const char* name;
  const char* parameters;  // three letters each: P or V (pointer or value), then kind and size of the number as NumPy
                           // has them, or ?0
  unsigned most_threads;   // of a block
  void (*run)(Launch& launch);
};

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

template <class Parameter, class Number = std::remove_cv_t<std::remove_pointer_t<Parameter>>>
constexpr char CODE[3] = {std::is_pointer_v<Parameter> ? 'P' : 'V', kind_of<Number>(), size_of<Number>()};

template <auto kernel>
struct Kernel;

template <class... Parameters, void (*kernel)(Parameters...)>
struct Kernel<kernel> {
  static constexpr char parameters[][3] = {{CODE<Parameters>[0], CODE<Parameters>[1], CODE<Parameters>[2]}..., {}};

  EMULATION_UNTRACED static void call(void** arguments) {
    [arguments]<size_t... I>(std::index_sequence<I...>) EMULATION_UNTRACED {
      kernel(*static_cast<std::remove_cv_t<Parameters>*>(arguments[I])...);
    }(std::index_sequence_for<Parameters...>{});
  }

  static constexpr Entry entry(const char* name, unsigned most_threads) {
    return {name, parameters[0], most_threads, [](Launch& launch) { run(launch, call); }};
  }
};

}  // namespace emulation

#define EMULATION_KERNEL(name, most_threads) emulation::Kernel<name>::entry(#name, most_threads)
#define EMULATION_TABLE(...)                                                                 \
  extern "C" {                                                                               \
  extern __attribute__((visibility("default"))) const emulation::Entry emulation_kernels[];  \
  extern __attribute__((visibility("default"))) const size_t emulation_worker[];             \
  const emulation::Entry emulation_kernels[] = {__VA_ARGS__};                                \
  const size_t emulation_worker[] = {sizeof(emulation::Worker), alignof(emulation::Worker)}; \
  }
