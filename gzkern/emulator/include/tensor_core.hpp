// Tensor cores in tf32: the rounding of operands, and mma.sync with its fragments laid out over a warp as PTX says.
#pragma once

#include "intrinsics.hpp"
#include "warp.hpp"

namespace emulation {

// cvt.rna.tf32: nearest, ties away from zero; infinity stays, NaN becomes the one that the instruction gives.
inline unsigned to_tf32(float x) {
  if (isnan(x)) return 0x7fffffff;
  const unsigned bits = bits_as<unsigned>(x);
  return isinf(x) ? bits : (bits + 0x1000) & 0xffffe000;
}

struct MmaOperand {
  const unsigned *a, *b;
  float* d;
};

// The layout of the fragments is in kernels/include/mma.cuh. The products of a tile are summed before they are added,
// in an order that is the emulator's own: the hardware's is not documented.
EMULATION_UNSEEN inline void multiply(MmaOperand** lanes) {
  auto tf32 = [](unsigned bits) EMULATION_UNSEEN { return bits_as<float>(bits & 0xffffe000); };  // the rest is ignored
  float products[16][8];
  for (unsigned row = 0; row < 16; row++)
    for (unsigned column = 0; column < 8; column++) {
      float sum = 0;
      for (unsigned k = 0; k < 8; k++) {
        const float a = tf32(lanes[row % 8 * 4 + k % 4]->a[row / 8 + k / 4 * 2]);
        const float b = tf32(lanes[column * 4 + k % 4]->b[k / 4]);
        sum = fmaf(a, b, sum);
      }
      products[row][column] = sum;
    }
  for (unsigned lane = 0; lane < WARP; lane++)
    for (unsigned i = 0; i < 4; i++) lanes[lane]->d[i] += products[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

inline void mma_m16n8k8_tf32(float d[4], const unsigned a[4], const unsigned b[2], Place place = Place::current()) {
  MmaOperand mine{a, b, d};
  collective("mma.sync", ~0u, mine, [](MmaOperand** lanes, unsigned) EMULATION_UNSEEN { multiply(lanes); }, place);
}

}  // namespace emulation
