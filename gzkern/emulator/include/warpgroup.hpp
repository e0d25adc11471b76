// wgmma in tf32: each warp of a warpgroup multiplies its 16 rows when its lanes meet. That the four warps of a group run
// together, and that a product is not done before it is waited for, is not emulated.
#pragma once

#include "intrinsics.hpp"
#include "warp.hpp"

namespace emulation {

struct WgmmaOperand {
  float* d;
  const unsigned* a;
  const float* b;
  unsigned columns;  // of 8
  bool add;
};

// Layouts are in kernels/include/wgmma.cuh. As in mma.sync, eight products are summed before they are added to d.
EMULATION_UNSEEN inline void multiply(WgmmaOperand** lanes) {
  auto tf32 = [](unsigned bits) EMULATION_UNSEEN { return bits_as<float>(bits & 0xffffe000); };
  for (unsigned row = 0; row < 16; row++)
    for (unsigned column = 0; column < 8 * lanes[0]->columns; column++) {
      float sum = 0;
      for (unsigned k = 0; k < 8; k++) {
        const float a = tf32(lanes[row % 8 * 4 + k % 4]->a[row / 8 + k / 4 * 2]);
        const float b = lanes[0]->b[column / 8 * 64 + k / 4 * 32 + column % 8 * 4 + k % 4];
        sum = fmaf(a, tf32(bits_as<unsigned>(b)), sum);
      }
      float& d = lanes[row % 8 * 4 + column % 8 / 2]->d[column / 8 * 4 + row / 8 * 2 + column % 2];
      d = lanes[0]->add ? d + sum : sum;
    }
}

inline void wgmma(float* d, unsigned columns, bool add, const unsigned (&a)[4], const float* b,
                  Place place = Place::current()) {
  WgmmaOperand mine{d, a, b, columns, add};
  const char* const call = columns == 2 ? "wgmma m64n16k8" : columns == 4 ? "wgmma m64n32k8" : "wgmma m64n64k8";
  collective(call, ~0u, mine, [](WgmmaOperand** lanes, unsigned) EMULATION_UNSEEN { multiply(lanes); }, place);
}

}  // namespace emulation
