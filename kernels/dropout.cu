// dropout: drop elements at random and rescale the others; forward and backward are the same product.
//
//   y[i] = x[i] · (word[i] >= threshold ? scale : 0),   word[i] = word i mod 4 of
//   Philox 4x32-10 with counter (i div 4, layer, step low, step high) and key (seed low, seed high)
//
// An operation of its own for the inputs of the first dense layer: inside the product every block of outputs would draw
// the mask of all inputs again. What a dense layer's activation gives is dropped where it is written, by dense/forward.cu.
//
// Arrays     x, y any shape, contiguous, n elements; step (1,) int64.
// Threads    one four consecutive elements, which share one drawing.
// NaN        passes, dropped or not.
// Versions   naive        4-byte loads
//            vectorised   16-byte loads and stores; n a multiple of 4

#include "include/philox.cuh"

extern "C" __global__ void dropout_naive(const float* __restrict__ x, float* __restrict__ y, unsigned n,
                                         unsigned key_low, unsigned key_high, unsigned layer,
                                         const long long* __restrict__ step, unsigned threshold, float scale) {
  const unsigned quad = blockIdx.x * blockDim.x + threadIdx.x, i = 4 * quad;
  if (i >= n) return;
  const uint4 words = philox(counter(quad, layer, step[0]), make_uint2(key_low, key_high));
  const Multiplier multiplier = {threshold, scale};
  y[i] = x[i] * multiplier(words.x);
  if (i + 1 < n) y[i + 1] = x[i + 1] * multiplier(words.y);
  if (i + 2 < n) y[i + 2] = x[i + 2] * multiplier(words.z);
  if (i + 3 < n) y[i + 3] = x[i + 3] * multiplier(words.w);
}

extern "C" __global__ void dropout_vectorised(const float4* __restrict__ x, float4* __restrict__ y, unsigned n,
                                              unsigned key_low, unsigned key_high, unsigned layer,
                                              const long long* __restrict__ step, unsigned threshold, float scale) {
  const unsigned quad = blockIdx.x * blockDim.x + threadIdx.x;
  if (4 * quad >= n) return;
  const uint4 words = philox(counter(quad, layer, step[0]), make_uint2(key_low, key_high));
  const Multiplier multiplier = {threshold, scale};
  const float4 value = x[quad];
  y[quad] = make_float4(value.x * multiplier(words.x), value.y * multiplier(words.y), value.z * multiplier(words.z),
                        value.w * multiplier(words.w));
}
