// What follows the product of a dense layer, forward and backward. NaN passes; pieces that tie each get the gradient.
#pragma once

enum Activation : unsigned { LINEAR, RELU, MAXOUT };

__device__ __forceinline__ float rectified(float z) { return z < 0 ? 0.0f : z; }

// The larger of two pieces, or NaN if one is; bit 0 and bit 1 of the code: the first, the second piece equals it.
__device__ __forceinline__ float larger_piece(float first, float second, unsigned char& code) {
  const float y = first > second || first != first ? first : second;
  code = (first == y ? 1 : 0) | (second == y ? 2 : 0);
  return y;
}

__device__ __forceinline__ float to_piece(float gradient, unsigned char code, unsigned piece) {
  return code >> piece & 1 ? gradient : 0.0f;
}

// The gradient of z (O, B) before the activation, rebuilt where it is read from the gradient of what came after it.
struct GradientOfZ {
  const float* gradient;  // (O, B); maxout: (O/2, B)
  const void* saved;      // relu: y (O, B); maxout: code (O/2, B), uint8; linear: not read
  unsigned activation;
  unsigned B;
  float scale;  // of the dropout after the activation, 1 without; what it dropped has y = 0 or code 0

  __device__ __forceinline__ float at(unsigned o, unsigned b) const {
    return value((activation == MAXOUT ? o / 2 : o) * B + b, o % 2);
  }

  // dz[k] = at(o + k·STEP, b), 0 from row `end` on; the address is counted up rather than computed each time.
  template <unsigned STEP, unsigned COUNT>
  __device__ __forceinline__ void column(unsigned o, unsigned b, unsigned end, float (&dz)[COUNT]) const {
    static_assert(STEP % 2 == 0, "these rows are all the same piece of their units");
    const unsigned step = (activation == MAXOUT ? STEP / 2 : STEP) * B;
    unsigned index = (activation == MAXOUT ? o / 2 : o) * B + b;
#pragma unroll
    for (unsigned k = 0; k < COUNT; ++k, index += step) dz[k] = o + k * STEP < end ? value(index, o % 2) : 0.0f;
  }

  __device__ __forceinline__ float value(unsigned index, unsigned piece) const {
    const float after = scale * gradient[index];
    if (activation == MAXOUT) return to_piece(after, static_cast<const unsigned char*>(saved)[index], piece);
    return activation == RELU && static_cast<const float*>(saved)[index] <= 0 ? 0.0f : after;
  }
};
