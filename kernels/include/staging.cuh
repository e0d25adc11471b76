// A staging buffer of `slots` tables, of which a step takes one: the steps are counted on the device, so that a captured
// step can be replayed as it is.
#pragma once

__device__ __forceinline__ unsigned slot_of(const long long* step, unsigned slots) {
  return static_cast<unsigned>(static_cast<unsigned long long>(*step) % slots);
}
