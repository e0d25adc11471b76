// The gradient before the activation of a dense layer, four columns of two rows at once.
//
//   load(dz, o, b, inside)    what it takes of the gradient and of what was saved; zeros where it is not inside
//   row(dz, piece)            four columns of row o + piece
//
// Between the two other work may run, as what is loaded is not looked at before row(), y of relu excepted. o is even, b
// and B are multiples of 4.
#pragma once

#include "../include/activation.cuh"
#include "../include/float4.cuh"

struct GradientPair {
  float4 first, second;  // of what came after the activation; maxout's two pieces share the first
  unsigned codes;        // a byte a column: bit 0 and bit 1, whether its gradient passes to row o, o + 1

  __device__ __forceinline__ void load(const GradientOfZ& dz, unsigned o, unsigned b, bool inside) {
    codes = 0;
    first = second = make_float4(0, 0, 0, 0);
    if (!inside) return;
    const unsigned index = (dz.activation == MAXOUT ? o / 2 : o) * dz.B + b;
    first = load4(dz.gradient + index);
    if (dz.activation == MAXOUT) {
      codes = *reinterpret_cast<const unsigned*>(static_cast<const unsigned char*>(dz.saved) + index);
      return;
    }
    second = load4(dz.gradient + index + dz.B);
    codes = 0x03030303;
    if (dz.activation != RELU) return;
    const float* const y = static_cast<const float*>(dz.saved) + index;
    codes = passes(load4(y)) | passes(load4(y + dz.B)) << 1;
  }

  __device__ __forceinline__ float4 row(const GradientOfZ& dz, unsigned piece) const {
    const float4 after = piece == 0 || dz.activation == MAXOUT ? first : second;
    return make_float4(to_piece(dz.scale * after.x, codes, piece), to_piece(dz.scale * after.y, codes >> 8, piece),
                       to_piece(dz.scale * after.z, codes >> 16, piece),
                       to_piece(dz.scale * after.w, codes >> 24, piece));
  }

 private:
  // NaN passes.
  static __device__ __forceinline__ unsigned passes(float4 y) {
    return (y.x <= 0 ? 0 : 1) | (y.y <= 0 ? 0 : 1 << 8) | (y.z <= 0 ? 0 : 1 << 16) | (y.w <= 0 ? 0 : 1 << 24);
  }
};
