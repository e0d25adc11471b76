// Philox 4x32-10: four random words, a pure function of counter and key (Salmon et al. 2011, "Parallel random numbers:
// as easy as 1, 2, 3"; Random123).
#pragma once

// What gzkern.core.dropout_mask.Mask says of the words of four elements.
__device__ __forceinline__ uint4 counter(unsigned quad, unsigned layer, long long step) {
  return make_uint4(quad, layer, static_cast<unsigned>(step), static_cast<unsigned>(step >> 32));
}

// What dropout multiplies by the element that a word decides on.
struct Multiplier {
  unsigned threshold;
  float scale;

  __device__ __forceinline__ float operator()(unsigned word) const { return word >= threshold ? scale : 0.0f; }
};

__device__ __forceinline__ uint4 philox(uint4 counter, uint2 key) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned long long first = 0xD2511F53ull * counter.x, second = 0xCD9E8D57ull * counter.z;
    counter = make_uint4(static_cast<unsigned>(second >> 32) ^ counter.y ^ key.x, static_cast<unsigned>(second),
                         static_cast<unsigned>(first >> 32) ^ counter.w ^ key.y, static_cast<unsigned>(first));
    key = make_uint2(key.x + 0x9E3779B9u, key.y + 0xBB67AE85u);
  }
  return counter;
}
