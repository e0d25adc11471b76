// Sums of parts of a dense product, (parts, B, rows) with the rows innermost, turned into (rows, B).
//
// A thread adds those of four b of a row, so that it writes four numbers side by side. Blocks have 4 threads along b, so
// that a warp has 8 rows × 16 b: it reads and writes whole sectors.
#pragma once

#include "include/float4.cuh"

// sums[k][n]: of column b + k and row + n, over the parts in their order; columns beyond the last repeat it.
template <unsigned ROWS>
__device__ __forceinline__ void add_parts(const float* __restrict__ partial, unsigned parts, unsigned B, unsigned rows,
                                          unsigned row, unsigned b, float (&sums)[4][ROWS]) {
  static_assert(ROWS == 1 || ROWS == 2, "a load takes the rows of a column");
#pragma unroll 4
  for (unsigned part = 0; part < parts; ++part) {
#pragma unroll
    for (unsigned k = 0; k < 4; ++k) {
      const float* from = partial + (part * B + min(b + k, B - 1)) * rows + row;
      if constexpr (ROWS == 2) {
        const float2 pair = load2(from);
        sums[k][0] += pair.x;
        sums[k][1] += pair.y;
      } else {
        sums[k][0] += from[0];
      }
    }
  }
}

// Columns b to b + 3 of a row of (rows, B), as many as there are; `to` is the first of them.
__device__ __forceinline__ void store_columns(float* to, float4 values, unsigned b, unsigned B) {
  if (B % 4 == 0) {
    store4(to, values);
  } else {
    store_up_to_4<false>(to, values, B - b);
  }
}
