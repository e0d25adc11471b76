// Sums of parts of a dense product, (parts, B, rows) with the rows innermost, turned into (rows, B).
//
// A thread adds those of four b of a row, so that it writes four numbers side by side. Blocks have 4 threads along b and
// 16 rows, so that a warp has 8 rows × 16 b: it reads and writes whole sectors. Along z they have groups of such threads,
// at most GROUPS, which share the parts among them: the rows of a layer are too few threads to hide what a load takes.
#pragma once

#include "../include/float4.cuh"

constexpr unsigned GROUP = 4 * 16, GROUPS = 8, PARTS_THREADS = GROUP * GROUPS;
constexpr unsigned PARTS_AT_ONCE = 4;  // loaded by a thread before it adds the first

__device__ __forceinline__ void load_rows(const float* from, float (&rows)[1]) { rows[0] = from[0]; }

__device__ __forceinline__ void load_rows(const float* from, float (&rows)[2]) {
  const float2 pair = load2(from);
  rows[0] = pair.x;
  rows[1] = pair.y;
}

// sums[k][n], of the first group: of column b + k and row + n, over all parts. A group adds every blockDim.z-th part in
// order, the first group adds the groups' sums in order. All threads of the block call once; those beyond the last row
// or column repeat it.
template <unsigned ROWS>
__device__ __forceinline__ void add_parts(const float* __restrict__ partial, unsigned parts, unsigned B, unsigned rows,
                                          unsigned row, unsigned b, float (&sums)[4][ROWS]) {
  __shared__ float of_groups[GROUPS - 1][4][ROWS][GROUP];
  const unsigned groups = blockDim.z, group = threadIdx.z, thread = threadIdx.y * blockDim.x + threadIdx.x;
  unsigned from[4];
#pragma unroll
  for (unsigned k = 0; k < 4; ++k) from[k] = min(b + k, B - 1) * rows + min(row, rows - ROWS);

#pragma unroll 1
  for (unsigned first = group; first < parts; first += PARTS_AT_ONCE * groups) {
    float loaded[PARTS_AT_ONCE][4][ROWS] = {};  // before any is added
#pragma unroll
    for (unsigned i = 0; i < PARTS_AT_ONCE; ++i) {
      const unsigned part = first + i * groups;
      if (part >= parts) continue;
#pragma unroll
      for (unsigned k = 0; k < 4; ++k) load_rows(partial + part * B * rows + from[k], loaded[i][k]);
    }
#pragma unroll
    for (unsigned i = 0; i < PARTS_AT_ONCE; ++i)
#pragma unroll
      for (unsigned k = 0; k < 4; ++k)
#pragma unroll
        for (unsigned n = 0; n < ROWS; ++n) sums[k][n] += loaded[i][k][n];
  }

  if (groups == 1) return;
  if (group > 0) {
#pragma unroll
    for (unsigned k = 0; k < 4; ++k)
#pragma unroll
      for (unsigned n = 0; n < ROWS; ++n) of_groups[group - 1][k][n][thread] = sums[k][n];
  }
  __syncthreads();
  if (group > 0) return;
#pragma unroll
  for (unsigned other = 1; other < GROUPS; ++other)
#pragma unroll
    for (unsigned k = 0; k < 4; ++k)
#pragma unroll
      for (unsigned n = 0; n < ROWS; ++n) sums[k][n] += other < groups ? of_groups[other - 1][k][n][thread] : 0.0f;
}

// Columns b to b + 3 of a row of (rows, B), as many as there are; `to` is the first of them.
__device__ __forceinline__ void store_columns(float* to, float4 values, unsigned b, unsigned B) {
  if (B % 4 == 0) {
    store4(to, values);
  } else {
    store_up_to_4<false>(to, values, B - b);
  }
}
