// Sizes of shared memory that spread what is read at once over its banks.
#pragma once

// The least number from `size` on that is `rest` modulo `period`.
__device__ constexpr unsigned padded(unsigned size, unsigned rest, unsigned period) {
  return size + (rest + period - size % period) % period;
}
