// conv2d_backward_data_unrolled: the gradient of a convolution's input, compiled for a layer's filter and width.
//
//   dx[c, h, w, n] = Σ_{k,r,s} weight[c, r, s, k] · dz[k, h − r, w − s, n], over the (r, s) whose position is in dz
//
// dz is the gradient before ReLU and pool, see conv2d_gradient.cuh.
//
// Arrays     weight (C, R, S, K); gradient (K, P, Q, N), or by POOL (K, ⌈P/2⌉, ⌈Q/2⌉, N), with y or code of its shape;
//            dx (C, H, W, N), H = P + R − 1, W = Q + S − 1. N is a multiple of 4, K of FILTERS; a sum has at most 4,096
//            terms a split.
// Threads    A thread has a whole row of dx for CHANNELS channels and 4 images. A block has BLOCK_CHANNELS channels ×
//            BLOCK_N images × ROWS rows, and all of them SPLITS times: splits share out the filters of a stage, and their
//            sums are added in shared memory in their order. A warp has one row. Grid: x images innermost, then channels;
//            y rows, from the middle outwards: those at the border have fewer taps, and fill the gaps at the end.
// NaN        every product is one of the formula.
// Version    the only one. A row of dz is multiplied by a row of a filter without a test or a product too many: each of
//            its Q positions, one load, goes to S sums of every channel. Rows beyond dz are not in the loop. The gradient
//            and its code come by asynchronous copies as they are, a pool's windows once, two stages ahead; the thread
//            that copied them makes dz of them for the next stage.

#include "include/async_copy.cuh"
#include "include/conv2d_form.cuh"
#include "include/float4.cuh"
#include "include/padded.cuh"

#ifndef TILE  // template arguments; the binding gives those of a layer: here the second of the published network
#define TILE 5, 5, POOL, 20, 2, 32, 32, 1, 2, 4, 6, 1
#endif

template <unsigned R_, unsigned S_, unsigned FORM_, unsigned W_, unsigned CHANNELS_, unsigned BLOCK_CHANNELS_,
          unsigned BLOCK_N_, unsigned ROWS_, unsigned SPLITS_, unsigned FILTERS_, unsigned PATCH_ROWS_, unsigned BLOCKS_>
struct Tile {
  static constexpr unsigned R = R_, S = S_, FORM = FORM_, W = W_, Q = W - S + 1;
  static constexpr unsigned CHANNELS = CHANNELS_, BLOCK_CHANNELS = BLOCK_CHANNELS_, BLOCK_N = BLOCK_N_, ROWS = ROWS_;
  static constexpr unsigned SPLITS = SPLITS_, FILTERS = FILTERS_;  // filters of a stage
  static constexpr unsigned PATCH_ROWS = PATCH_ROWS_;              // of dz, the most that a block needs
  static constexpr unsigned BLOCKS = BLOCKS_;                      // at once on a multiprocessor

  static constexpr unsigned LANES = BLOCK_N / 4, GROUP = LANES * (BLOCK_CHANNELS / CHANNELS);  // threads of a split, row
  static constexpr unsigned THREADS = GROUP * SPLITS * ROWS;

  // A cell is what one element of the gradient tells of dz: a position, or by POOL a window.
  static constexpr unsigned UNIT = FORM == POOL ? 2 : 1;
  static constexpr unsigned CELL_ROWS = PATCH_ROWS / UNIT, CELL_COLUMNS = (Q + UNIT - 1) / UNIT;
  static constexpr unsigned CELLS = FILTERS * CELL_ROWS * CELL_COLUMNS, PIECES = (CELLS * LANES + THREADS - 1) / THREADS;

  // Floats, of a filter. Splits of a warp read dz from different banks; neighbouring filters and channels, which come by
  // one copy each, go to different banks too.
  static constexpr unsigned LINE = CELL_COLUMNS * UNIT * BLOCK_N, PATCH = padded(PATCH_ROWS * LINE, BLOCK_N % 32, 32);
  static constexpr unsigned FILTER_LANES = FILTERS < 8 ? FILTERS : 8;
  static constexpr unsigned WEIGHTS = padded(R * S * BLOCK_CHANNELS, 32 / FILTER_LANES % 32, 32);
  static constexpr unsigned STAGE = FILTERS * (PATCH + WEIGHTS);

  // Filters that one turn of a loop takes: enough multiply-adds to hide the loads of the next ones.
  static constexpr unsigned TERMS = 4 * Q * S * CHANNELS, SHARE = FILTERS / SPLITS;
  static constexpr unsigned UNROLLED = TERMS >= 400 || SHARE % 2 ? 1 : 2;

  static_assert(CHANNELS == 1 || CHANNELS == 2 || CHANNELS % 4 == 0, "weights of a thread are whole loads");
  static_assert(BLOCK_CHANNELS % CHANNELS == 0 && BLOCK_N % 4 == 0 && FILTERS % SPLITS == 0, "equal shares");
  static_assert(GROUP * SPLITS % 32 == 0, "a warp has one row");
  static_assert(THREADS % (FILTERS * BLOCK_CHANNELS) == 0, "a thread copies weights of one filter and channel");
  static_assert(PATCH_ROWS % UNIT == 0, "cells are whole");
};

using T = Tile<TILE>;

struct Layer {
  const float *weight, *gradient;
  const void* kept;
  float* dx;
  unsigned C, H, N, K;
  unsigned P;
};

// Where a block's channels, rows and images begin, and what its rows need: rows of dz and of the filters.
struct Block {
  unsigned c, h, n;
  unsigned p, p_end, r, r_end;

  __device__ __forceinline__ explicit Block(const Layer& layer) {
    const unsigned images = (layer.N + T::BLOCK_N - 1) / T::BLOCK_N, middle = gridDim.y / 2, y = blockIdx.y;
    n = blockIdx.x % images * T::BLOCK_N;
    c = blockIdx.x / images * T::BLOCK_CHANNELS;
    h = (y % 2 ? middle - (y + 1) / 2 : middle + y / 2) * T::ROWS;
    const unsigned end = min(h + T::ROWS, layer.H);
    p = h < T::R ? 0 : (h - (T::R - 1)) / T::UNIT * T::UNIT;
    p_end = min(end, layer.P);
    r = h < layer.P ? 0 : h - (layer.P - 1);
    r_end = min(end, T::R);
  }
};

// What the gradient and what is kept of the forward pass say of a cell, for four images.
struct Piece {
  float4 dy, y;   // y by RELU
  unsigned code;  // by POOL, a byte an image

  // dz of a position: by POOL, `corner` of the window.
  __device__ __forceinline__ float4 dz(unsigned corner) const {
    if constexpr (T::FORM == RELU)
      return make_float4(y.x <= 0 ? 0.0f : dy.x, y.y <= 0 ? 0.0f : dy.y, y.z <= 0 ? 0.0f : dy.z, y.w <= 0 ? 0.0f : dy.w);
    if constexpr (T::FORM == POOL) {
      const unsigned bit = 1u << corner;
      return make_float4(code & bit ? dy.x : 0.0f, code & bit << 8 ? dy.y : 0.0f, code & bit << 16 ? dy.z : 0.0f,
                         code & bit << 24 ? dy.w : 0.0f);
    }
    return dy;
  }
};

struct Cell {
  unsigned from, to;  // where it begins in a stage of the gradient, and in one of dz
};
constexpr unsigned NOWHERE = ~0u;

// Finds the cells of a stage, once for all stages.
__device__ __forceinline__ void find_cells(Cell* cells, const Layer& layer, const Block& block) {
  const unsigned rows = (layer.P + T::UNIT - 1) / T::UNIT;
#pragma unroll 1
  for (unsigned i = threadIdx.x; i < T::CELLS; i += T::THREADS) {
    const unsigned column = i % T::CELL_COLUMNS, row = i / T::CELL_COLUMNS % T::CELL_ROWS;
    const unsigned filter = i / (T::CELL_COLUMNS * T::CELL_ROWS), p = block.p + row * T::UNIT;
    const unsigned from = ((filter * rows + p / T::UNIT) * T::CELL_COLUMNS + column) * layer.N;
    cells[i].from = p < block.p_end ? from : NOWHERE;
    cells[i].to = filter * T::PATCH + (row * T::LINE + column * T::BLOCK_N) * T::UNIT;
  }
}

// The gradient on its way to dz: a thread copies some cells of each stage, always of the same four images.
struct Gradient {
  const float* gradient;  // of the next stage
  const char* kept;
  unsigned stage;  // elements
  const Cell* cells;
  float *raw, *raw_kept;  // what was copied, a thread's pieces THREADS apart

  static constexpr unsigned KEPT_BYTES = T::FORM == RELU ? 16 : 4;  // of a piece
  static constexpr unsigned RAW = T::CELLS * T::LANES * 4;          // floats
  static constexpr unsigned RAW_KEPT = T::FORM == PLAIN ? 0 : RAW * KEPT_BYTES / 16;

  __device__ __forceinline__ Gradient(const Layer& layer, const Block& block, const Cell* cells, float* raw)
      : stage(T::FILTERS * ((layer.P + T::UNIT - 1) / T::UNIT) * T::CELL_COLUMNS * layer.N),
        cells(cells + threadIdx.x / T::LANES),
        raw(raw + threadIdx.x * 4),
        raw_kept(raw + RAW + threadIdx.x * (KEPT_BYTES / 4)) {
    const unsigned n = min(block.n + threadIdx.x % T::LANES * 4, layer.N - 4);
    gradient = layer.gradient + n;
    kept = static_cast<const char*>(layer.kept) + n * (KEPT_BYTES / 4);
  }

  __device__ __forceinline__ Cell cell(unsigned i) const {
    constexpr unsigned AT_ONCE = T::THREADS / T::LANES;
    if ((i + 1) * AT_ONCE > T::CELLS && threadIdx.x / T::LANES + i * AT_ONCE >= T::CELLS) return {NOWHERE, 0};
    return cells[i * AT_ONCE];
  }

  __device__ __forceinline__ void start(unsigned i, unsigned from) const {
    if (from == NOWHERE) return;
    copy_async<16>(raw + i * T::THREADS * 4, gradient + from);
    if constexpr (T::FORM != PLAIN)
      copy_async<KEPT_BYTES>(raw_kept + i * T::THREADS * (KEPT_BYTES / 4), kept + from * (KEPT_BYTES / 4));
  }

  __device__ __forceinline__ void next() {
    gradient += stage;
    kept += stage * (KEPT_BYTES / 4);
  }

  // The first stage.
  __device__ __forceinline__ void begin() {
#pragma unroll
    for (unsigned i = 0; i < T::PIECES; ++i) start(i, cell(i).from);
    next();
  }

  // What has come goes to `patches` as dz; copies of the stage after it begin, if there is one.
  __device__ __forceinline__ void turn(float* patches, bool more) {
    constexpr unsigned AT_ONCE = T::PIECES < 4 ? T::PIECES : 4;
    float* const to = patches + threadIdx.x % T::LANES * 4;
#pragma unroll
    for (unsigned first = 0; first < T::PIECES; first += AT_ONCE) {
      Piece pieces[AT_ONCE];
      Cell found[AT_ONCE];
#pragma unroll
      for (unsigned i = 0; i < AT_ONCE; ++i) {
        found[i] = first + i < T::PIECES ? cell(first + i) : Cell{NOWHERE, 0};
        if (found[i].from == NOWHERE) continue;
        const unsigned at = (first + i) * T::THREADS;
        pieces[i].dy = load4(raw + at * 4);
        if constexpr (T::FORM == RELU) pieces[i].y = load4(raw_kept + at * 4);
        if constexpr (T::FORM == POOL) pieces[i].code = __float_as_uint(raw_kept[at]);
      }
#pragma unroll
      for (unsigned i = 0; i < AT_ONCE; ++i)
        if (more) start(first + i, found[i].from);
#pragma unroll
      for (unsigned i = 0; i < AT_ONCE; ++i) {
        if (found[i].from == NOWHERE) continue;
#pragma unroll
        for (unsigned corner = 0; corner < T::UNIT * T::UNIT; ++corner)
          store4(to + found[i].to + corner / 2 * T::LINE + corner % 2 * T::BLOCK_N, pieces[i].dz(corner));
      }
    }
    next();
  }
};

// Weights of a stage go to shared memory channels innermost: a thread copies one filter and channel, some of the taps.
struct Weights {
  const float* weight;  // of the next stage
  unsigned to, tap, end;
  unsigned K;

  static constexpr unsigned PAIRS = T::FILTERS * T::BLOCK_CHANNELS, AT_ONCE = T::THREADS / PAIRS;  // taps at once

  __device__ __forceinline__ Weights(const Layer& layer, const Block& block) : end(block.r_end * T::S), K(layer.K) {
    const unsigned pair = threadIdx.x % PAIRS, channel = pair / T::FILTER_LANES % T::BLOCK_CHANNELS;
    const unsigned filter = pair / (T::FILTER_LANES * T::BLOCK_CHANNELS) * T::FILTER_LANES + pair % T::FILTER_LANES;
    tap = block.r * T::S + threadIdx.x / PAIRS;
    weight = layer.weight + (min(block.c + channel, layer.C - 1) * (T::R * T::S) + tap) * K + filter;
    to = filter * T::WEIGHTS + tap * T::BLOCK_CHANNELS + channel;
  }

  __device__ __forceinline__ void start(float* weights) {
    const float* from = weight;
    float* at = weights + to;
#pragma unroll 4
    for (unsigned i = tap; i < end; i += AT_ONCE, from += AT_ONCE * K, at += AT_ONCE * T::BLOCK_CHANNELS)
      copy_async<4>(at, from);
    weight += T::FILTERS;
  }
};

struct Sums {
  float4 at[T::CHANNELS][T::W];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (unsigned c = 0; c < T::CHANNELS; ++c)
#pragma unroll
      for (unsigned w = 0; w < T::W; ++w) at[c][w] = make_float4(0, 0, 0, 0);
  }

  // One row of a filter: `row` of dz at the thread's images, `weights` at its channels.
  __device__ __forceinline__ void accumulate(const float* row, const float* weights) {
    float weight[T::S][T::CHANNELS];
#pragma unroll
    for (unsigned s = 0; s < T::S; ++s) load(weight[s], weights + s * T::BLOCK_CHANNELS);
#pragma unroll
    for (unsigned q = 0; q < T::Q; ++q) {
      const float4 dz = load4(row + q * T::BLOCK_N);
#pragma unroll
      for (unsigned c = 0; c < T::CHANNELS; ++c)
#pragma unroll
        for (unsigned s = 0; s < T::S; ++s) multiply_add(at[c][q + s], weight[s][c], dz);
    }
  }

  static __device__ __forceinline__ void load(float (&to)[T::CHANNELS], const float* from) {
    if constexpr (T::CHANNELS == 1) {
      to[0] = *from;
    } else if constexpr (T::CHANNELS == 2) {
      const float2 two = load2(from);
      to[0] = two.x, to[1] = two.y;
    } else {
#pragma unroll
      for (unsigned c = 0; c < T::CHANNELS; c += 4) {
        const float4 four = load4(from + c);
        to[c] = four.x, to[c + 1] = four.y, to[c + 2] = four.z, to[c + 3] = four.w;
      }
    }
  }
};

extern "C" __global__ void __launch_bounds__(T::THREADS, T::BLOCKS)
    conv2d_backward_data_unrolled(const float* __restrict__ weight, const float* __restrict__ gradient,
                                  const void* __restrict__ kept, float* __restrict__ dx, unsigned C, unsigned H,
                                  unsigned N, unsigned K) {
  extern __shared__ __align__(16) float shared[];  // two stages, each dz, then weights; what copies of the gradient bring
  __shared__ Cell cells[T::CELLS];
  const Layer layer = {weight, gradient, kept, dx, C, H, N, K, H - T::R + 1};
  const Block block(layer);
  const unsigned lane = threadIdx.x % T::GROUP, split = threadIdx.x / T::GROUP % T::SPLITS;
  const unsigned h = block.h + threadIdx.x / (T::GROUP * T::SPLITS);
  const unsigned c = block.c + lane / T::LANES * T::CHANNELS, n = block.n + lane % T::LANES * 4;

  find_cells(cells, layer, block);
  __syncthreads();
  Gradient raw(layer, block, cells, shared + 2 * T::STAGE);
  Weights weights(layer, block);
  raw.begin();
  commit_async();
  wait_async<0>();
  raw.turn(shared, T::FILTERS < K);
  weights.start(shared + T::FILTERS * T::PATCH);
  commit_async();
  Sums sums;
  sums.clear();

  const unsigned r_first = h < layer.P ? 0 : h - (layer.P - 1), r_end = h < H ? min(h + 1, T::R) : 0;
  float *stage = shared, *other = shared + T::STAGE;
#pragma unroll 1
  for (unsigned k = 0; k < K; k += T::FILTERS) {
    wait_async<0>();
    __syncthreads();  // this stage is there, and nobody reads the other one any more
    if (k + T::FILTERS < K) {
      weights.start(other + T::FILTERS * T::PATCH);
      raw.turn(other, k + 2 * T::FILTERS < K);
    }
    commit_async();
    const float* row = stage + split * T::PATCH + (h - block.p - r_first) * T::LINE + lane % T::LANES * 4;
    const float* taps = stage + T::FILTERS * T::PATCH + split * T::WEIGHTS + r_first * T::S * T::BLOCK_CHANNELS +
                        lane / T::LANES * T::CHANNELS;
#pragma unroll 1
    for (unsigned r = r_first; r < r_end; ++r, row -= T::LINE, taps += T::S * T::BLOCK_CHANNELS) {
#pragma unroll T::UNROLLED
      for (unsigned i = 0; i < T::SHARE; ++i)
        sums.accumulate(row + i * T::SPLITS * T::PATCH, taps + i * T::SPLITS * T::WEIGHTS);
    }
    float* const done = stage;
    stage = other;
    other = done;
  }

  if constexpr (T::SPLITS == 1) {
    if (h >= H || n >= N) return;
#pragma unroll
    for (unsigned channel = 0; channel < T::CHANNELS; ++channel) {
      if (c + channel >= C) return;
      float* to = dx + ((c + channel) * H + h) * T::W * N + n;
#pragma unroll
      for (unsigned w = 0; w < T::W; ++w) store4(to + w * N, sums.at[channel][w]);
    }
  } else {
    constexpr unsigned LINE = T::GROUP * T::ROWS * 4;  // of all sums of a split
    float* const all = shared + (threadIdx.x / (T::GROUP * T::SPLITS) * T::GROUP + lane) * 4;
#pragma unroll
    for (unsigned channel = 0; channel < T::CHANNELS; ++channel) {
      __syncthreads();  // what is overwritten has been read
#pragma unroll
      for (unsigned w = 0; w < T::W; ++w) store4(all + (split * T::W + w) * LINE, sums.at[channel][w]);
      __syncthreads();
      if (h >= H || n >= N || c + channel >= C) continue;
      float* to = dx + (((c + channel) * H + h) * T::W + split) * N + n;
#pragma unroll 1
      for (unsigned w = split; w < T::W; w += T::SPLITS, to += T::SPLITS * N) {
        float4 sum = load4(all + w * LINE);
#pragma unroll
        for (unsigned s = 1; s < T::SPLITS; ++s) multiply_add(sum, 1.0f, load4(all + (s * T::W + w) * LINE));
        store4(to, sum);
      }
    }
  }
}
