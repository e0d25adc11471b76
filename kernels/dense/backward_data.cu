// dense_backward_data: the gradient of a dense layer's input.
//
//   dx[i, b] = Σ_o weight[i, o] · dz[o, b],   dz = the gradient before the activation, rebuilt while it is loaded
//
// The sum over o is cut into parts of `part` terms, as in dense/forward.cu: a product kernel writes the sums of the
// parts, dense_backward_data_sum adds them in order.
//
// Arrays     weight (I, O); gradient, saved: see GradientOfZ in include/activation.cuh; partial (parts, B, I);
//            dx (I, B).
// Threads    naive: one an element of partial, i innermost, parts along y.
//            tiled, vectorised: a block has 256 i × 16 b of one part, a thread 4 i × 8 b of them; grid (i, b, part).
//            A weight is read once for every 16 b, in runs of 64 bytes of a row.
//            sum: see parts.cuh; grid (i, b).
// Versions   naive        every thread reads the whole of its row of weights and of dz; those of a warp lie far apart
//            tiled        16 columns of weights and rows of dz in shared memory, loaded while the 16 before are
//                         multiplied; the row of a tile is padded by 4 floats, so that 8 rows do not share banks
//            vectorised   16-byte copies of the weights: O a multiple of 4

#include "../include/activation.cuh"
#include "../include/async_copy.cuh"
#include "../include/float4.cuh"
#include "parts.cuh"

constexpr unsigned INPUTS = 256, COLUMNS = 16, DEPTH = 16;  // extents of a tile: i, b, o
constexpr unsigned INPUTS_EACH = 4, COLUMNS_EACH = 8;       // of a thread; its i lie APART from each other
constexpr unsigned APART = INPUTS / INPUTS_EACH, THREADS = APART * (COLUMNS / COLUMNS_EACH);

extern "C" __global__ void dense_backward_data_naive(const float* __restrict__ weight,
                                                     const float* __restrict__ gradient, const void* __restrict__ saved,
                                                     float* __restrict__ partial, unsigned I, unsigned O, unsigned B,
                                                     unsigned part, unsigned activation, float scale) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= B * I) return;
  const GradientOfZ dz = {gradient, saved, activation, B, scale};
  const unsigned i = index % I, b = index / I;
  const unsigned first = blockIdx.y * part, end = first + part < O ? first + part : O;
  float sum = 0;
  for (unsigned o = first; o < end; ++o) sum = fmaf(weight[i * O + o], dz.at(o, b), sum);
  partial[blockIdx.y * B * I + index] = sum;
}

template <bool VECTORISED>
__device__ __forceinline__ void multiply_tiles(const float* __restrict__ weight, const GradientOfZ& dz,
                                               float* __restrict__ partial, unsigned I, unsigned O, unsigned B,
                                               unsigned part) {
  __shared__ __align__(16) float weights[2][INPUTS][DEPTH + 4];
  __shared__ __align__(16) float columns[2][DEPTH][COLUMNS];
  constexpr unsigned LOADS = DEPTH * COLUMNS / THREADS;
  const unsigned i0 = blockIdx.x * INPUTS, b0 = blockIdx.y * COLUMNS;
  const unsigned first = blockIdx.z * part, end = first + part < O ? first + part : O;

  constexpr unsigned WIDTH = VECTORISED ? 4 : 1, LANES = DEPTH / WIDTH, STEP = THREADS / LANES;
  const unsigned row = threadIdx.x / LANES, column = threadIdx.x % LANES * WIDTH;    // of the weights it copies
  const unsigned dz_row = threadIdx.x / COLUMNS, dz_column = threadIdx.x % COLUMNS;  // of dz that it loads

  auto copy = [&](unsigned stage, unsigned o0) {  // beyond the arrays come zeros
    const float* from = weight + (i0 + row) * O + o0 + column;
#pragma unroll
    for (unsigned k = 0; k < INPUTS; k += STEP, from += STEP * O) {
      const bool inside = i0 + row + k < I && o0 + column < end;
      copy_async<WIDTH * 4>(&weights[stage][row + k][column], inside ? from : weight, inside ? WIDTH * 4 : 0);
    }
    commit_async();
  };
  float loaded[LOADS];
  auto load = [&](unsigned o0) {
    dz.column<THREADS / COLUMNS>(o0 + dz_row, b0 + dz_column, b0 + dz_column < B ? end : 0, loaded);
  };
  auto put = [&](unsigned stage) {
#pragma unroll
    for (unsigned k = 0; k < LOADS; ++k) columns[stage][dz_row + k * (THREADS / COLUMNS)][dz_column] = loaded[k];
  };

  const unsigned i = threadIdx.x % APART, b = threadIdx.x / APART * COLUMNS_EACH;
  float4 sum[INPUTS_EACH][2] = {};
  auto add = [&](unsigned stage, unsigned row, float w0, float w1, float w2, float w3) {
    const float4 left = load4(&columns[stage][row][b]), right = load4(&columns[stage][row][b + 4]);
    multiply_add(sum[0][0], w0, left);
    multiply_add(sum[0][1], w0, right);
    multiply_add(sum[1][0], w1, left);
    multiply_add(sum[1][1], w1, right);
    multiply_add(sum[2][0], w2, left);
    multiply_add(sum[2][1], w2, right);
    multiply_add(sum[3][0], w3, left);
    multiply_add(sum[3][1], w3, right);
  };
  if (first < end) {
    copy(0, first);
    load(first);
    put(0);
  }
  unsigned stage = 0;
#pragma unroll 1
  for (unsigned o = first; o < end; o += DEPTH) {
    wait_async<0>();
    __syncthreads();  // this stage is there, and nobody reads the other one any more
    const bool more = o + DEPTH < end;
    if (more) {
      copy(stage ^ 1, o + DEPTH);
      load(o + DEPTH);
    }
#pragma unroll
    for (unsigned k = 0; k < DEPTH; k += 4) {
      const float4 w0 = load4(&weights[stage][i][k]), w1 = load4(&weights[stage][i + APART][k]);
      const float4 w2 = load4(&weights[stage][i + 2 * APART][k]), w3 = load4(&weights[stage][i + 3 * APART][k]);
      add(stage, k, w0.x, w1.x, w2.x, w3.x);
      add(stage, k + 1, w0.y, w1.y, w2.y, w3.y);
      add(stage, k + 2, w0.z, w1.z, w2.z, w3.z);
      add(stage, k + 3, w0.w, w1.w, w2.w, w3.w);
    }
    if (more) put(stage ^ 1);
    stage ^= 1;
  }

#pragma unroll
  for (unsigned row = 0; row < INPUTS_EACH; ++row) {
    if (i0 + i + row * APART >= I) break;
    float* to = partial + (blockIdx.z * B + b0 + b) * I + i0 + i + row * APART;
    const float values[COLUMNS_EACH] = {sum[row][0].x, sum[row][0].y, sum[row][0].z, sum[row][0].w,
                                        sum[row][1].x, sum[row][1].y, sum[row][1].z, sum[row][1].w};
#pragma unroll
    for (unsigned column = 0; column < COLUMNS_EACH; ++column) {
      if (b0 + b + column < B) to[column * I] = values[column];
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 5)
    dense_backward_data_tiled(const float* __restrict__ weight, const float* __restrict__ gradient,
                              const void* __restrict__ saved, float* __restrict__ partial, unsigned I, unsigned O,
                              unsigned B, unsigned part, unsigned activation, float scale) {
  multiply_tiles<false>(weight, {gradient, saved, activation, B, scale}, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(THREADS, 5)
    dense_backward_data_vectorised(const float* __restrict__ weight, const float* __restrict__ gradient,
                                   const void* __restrict__ saved, float* __restrict__ partial, unsigned I, unsigned O,
                                   unsigned B, unsigned part, unsigned activation, float scale) {
  multiply_tiles<true>(weight, {gradient, saved, activation, B, scale}, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(PARTS_THREADS)
    dense_backward_data_sum(const float* __restrict__ partial, float* __restrict__ dx, unsigned I, unsigned B,
                            unsigned parts) {
  const unsigned i = blockIdx.x * blockDim.y + threadIdx.y, b = (blockIdx.y * blockDim.x + threadIdx.x) * 4;
  float sums[4][1] = {};
  add_parts(partial, parts, B, I, i, b, sums);
  if (threadIdx.z > 0 || i >= I || b >= B) return;
  store_columns(dx + i * B + b, make_float4(sums[0][0], sums[1][0], sums[2][0], sums[3][0]), b, B);
}
