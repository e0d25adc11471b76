// conv2d_backward_data_specialised: the gradient of a convolution's input, compiled for a layer's filter and width.
//
//   dx[c, h, w, n] = Σ_{k,r,s} weight[c, r, s, k] · dz[k, h − r, w − s, n], over the (r, s) whose position is in dz
//
// dz is the gradient before ReLU and pool, see gradient.cuh.
//
// Arrays     weight (C, R, S, K); gradient (K, P, Q, N), or by POOL (K, ⌈P/2⌉, ⌈Q/2⌉, N), with y or code of its shape;
//            dx (C, H, W, N), H = P + R − 1, W = Q + S − 1. N is a multiple of 4, K of FILTERS; a sum has at most 4,096
//            terms a split.
// Threads    A thread has a whole row of dx for CHANNELS channels and 4 images. A block has BLOCK_CHANNELS channels ×
//            BLOCK_N images × ROWS rows, and all of them SPLITS times: splits share out the filters of a stage, and
//            their sums are added in shared memory in their order. A warp has one row. Grid: x images innermost, then
//            channels; y rows, from the middle outwards: those at the border have fewer taps, and fill the gaps at the
//            end.
// NaN        every product is one of the formula.
// Version    the only one. A row of dz is multiplied by a row of a filter without a test or a product too many: each of
//            its Q positions, one load, goes to S sums of every channel. Rows beyond dz are not in the loop. The
//            gradient and its code come by asynchronous copies as they are, a pool's windows once, two stages ahead;
//            the thread that copied them makes dz of them for the next stage.

#include "../include/async_copy.cuh"
#include "../include/float4.cuh"
#include "../include/opaque.cuh"
#include "../include/padded.cuh"
#include "epilogue.cuh"

#ifndef TILE  // template arguments; the binding gives those of a layer: here the second of the published network
#define TILE 5, 5, POOL, 20, 2, 32, 16, 2, 2, 8, 6, 1
#endif

template <unsigned R_, unsigned S_, unsigned EPILOGUE_, unsigned W_, unsigned CHANNELS_, unsigned BLOCK_CHANNELS_,
          unsigned BLOCK_N_, unsigned ROWS_, unsigned SPLITS_, unsigned FILTERS_, unsigned PATCH_ROWS_,
          unsigned BLOCKS_>
struct Tile {
  static constexpr unsigned R = R_, S = S_, EPILOGUE = EPILOGUE_, W = W_, Q = W - S + 1;
  static constexpr unsigned CHANNELS = CHANNELS_, BLOCK_CHANNELS = BLOCK_CHANNELS_, BLOCK_N = BLOCK_N_, ROWS = ROWS_;
  static constexpr unsigned SPLITS = SPLITS_, FILTERS = FILTERS_;  // filters of a stage
  static constexpr unsigned PATCH_ROWS = PATCH_ROWS_;              // of dz, the most that a block needs
  static constexpr unsigned BLOCKS = BLOCKS_;                      // at once on a multiprocessor

  static constexpr unsigned LANES = BLOCK_N / 4,
                            GROUP = LANES * (BLOCK_CHANNELS / CHANNELS);  // threads of a split, row
  static constexpr unsigned THREADS = GROUP * SPLITS * ROWS;

  // A cell is what one element of the gradient tells of dz: a position, or by POOL a window.
  static constexpr unsigned UNIT = EPILOGUE == POOL ? 2 : 1;
  static constexpr unsigned CELL_ROWS = PATCH_ROWS / UNIT, CELL_COLUMNS = (Q + UNIT - 1) / UNIT;
  static constexpr unsigned CELLS = FILTERS * CELL_ROWS * CELL_COLUMNS,
                            PIECES = (CELLS * LANES + THREADS - 1) / THREADS;

  // Floats, of a filter. Splits of a warp read dz from different banks; neighbouring filters and channels, which come
  // by one copy each, go to different banks too.
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
  static_assert(PATCH_ROWS % UNIT == 0, "cells are whole");
};

using T = Tile<TILE>;

struct Layer {
  const float *weight, *gradient;
  const void* saved;
  float* dx;
  unsigned C, H, N, K;
  unsigned P;
};

// Where a block's channels, rows and images begin, and what its rows need: rows of dz and of the filters.
struct Block {
  unsigned c, h, n;
  unsigned p, p_end, r, r_end;

  __device__ __forceinline__ Block(const Layer& layer, unsigned x, unsigned y) {
    const unsigned images = (layer.N + T::BLOCK_N - 1) / T::BLOCK_N, middle = gridDim.y / 2;
    n = x % images * T::BLOCK_N;
    c = x / images * T::BLOCK_CHANNELS;
    h = (y % 2 ? middle - (y + 1) / 2 : middle + y / 2) * T::ROWS;
    const unsigned end = min(h + T::ROWS, layer.H);
    p = h < T::R ? 0 : (h - (T::R - 1)) / T::UNIT * T::UNIT;
    p_end = min(end, layer.P);
    r = h < layer.P ? 0 : h - (layer.P - 1);
    r_end = min(end, T::R);
  }
};

// What the gradient and what is saved of the forward pass say of a cell, for four images.
struct Piece {
  float4 dy, y;   // y by RELU
  unsigned code;  // by POOL, a byte an image

  // dz of a position: by POOL, `corner` of the window.
  __device__ __forceinline__ float4 dz(unsigned corner) const {
    if constexpr (T::EPILOGUE == RELU)
      return make_float4(y.x <= 0 ? 0.0f : dy.x, y.y <= 0 ? 0.0f : dy.y, y.z <= 0 ? 0.0f : dy.z,
                         y.w <= 0 ? 0.0f : dy.w);
    if constexpr (T::EPILOGUE == POOL) {
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
  const float* gradient;
  const char* saved;
  unsigned at, stage;  // elements: where the next stage begins for this thread, and how many a stage has

  static constexpr unsigned SAVED_BYTES = T::EPILOGUE == RELU ? 16 : 4;  // of a piece
  static constexpr unsigned RAW = T::CELLS * T::LANES * 4;               // floats

  __device__ __forceinline__ Gradient(const Layer& layer, const Block& block)
      : gradient(layer.gradient),
        saved(static_cast<const char*>(layer.saved)),
        at(min(block.n + threadIdx.x % T::LANES * 4, layer.N - 4)),
        stage(T::FILTERS * ((layer.P + T::UNIT - 1) / T::UNIT) * T::CELL_COLUMNS * layer.N) {}

  // The cell of piece i of a thread.
  static __device__ __forceinline__ Cell cell(const Cell* cells, unsigned i, unsigned thread) {
    constexpr unsigned AT_ONCE = T::THREADS / T::LANES;
    const unsigned index = thread / T::LANES + i * AT_ONCE;
    if ((i + 1) * AT_ONCE > T::CELLS && index >= T::CELLS) return {NOWHERE, 0};
    return cells[index];
  }

  // Copies piece i of the next stage to `raw`, where those of a thread are THREADS apart.
  __device__ __forceinline__ void start(float* raw, unsigned i, unsigned from, unsigned thread) const {
    if (from == NOWHERE) return;
    const unsigned to = thread + i * T::THREADS;
    copy_async<16>(raw + to * 4, gradient + (at + from));
    if constexpr (T::EPILOGUE != PLAIN)
      copy_async<SAVED_BYTES>(raw + RAW + to * (SAVED_BYTES / 4),
                              saved + static_cast<unsigned long long>(at + from) * (SAVED_BYTES / 4));
  }

  // The first stage.
  __device__ __forceinline__ void begin(float* raw, const Cell* cells) {
#pragma unroll
    for (unsigned i = 0; i < T::PIECES; ++i) start(raw, i, cell(cells, i, threadIdx.x).from, threadIdx.x);
    at += stage;
  }

  // What has come goes to `patches` as dz; copies of the stage after it begin, if there is one.
  __device__ __forceinline__ void turn(float* patches, float* raw, const Cell* cells, bool more) {
    constexpr unsigned MOST = T::EPILOGUE == RELU ? 2 : 4, AT_ONCE = T::PIECES < MOST ? T::PIECES : MOST;
    const unsigned thread = opaque(threadIdx.x);
    float* const to = patches + thread % T::LANES * 4;
#pragma unroll
    for (unsigned first = 0; first < T::PIECES; first += AT_ONCE) {
      Piece pieces[AT_ONCE];
      Cell found[AT_ONCE];
#pragma unroll
      for (unsigned i = 0; i < AT_ONCE; ++i) {
        found[i] = first + i < T::PIECES ? cell(cells, first + i, thread) : Cell{NOWHERE, 0};
        if (found[i].from == NOWHERE) continue;
        const float* piece = raw + (thread + (first + i) * T::THREADS) * 4;
        const float* piece_saved = raw + RAW + (thread + (first + i) * T::THREADS) * (SAVED_BYTES / 4);
        pieces[i].dy = load4(piece);
        if constexpr (T::EPILOGUE == RELU) pieces[i].y = load4(piece_saved);
        if constexpr (T::EPILOGUE == POOL) pieces[i].code = __float_as_uint(*piece_saved);
      }
#pragma unroll
      for (unsigned i = 0; i < AT_ONCE; ++i)
        if (more) start(raw, first + i, found[i].from, thread);
#pragma unroll
      for (unsigned i = 0; i < AT_ONCE; ++i) {
        if (found[i].from == NOWHERE) continue;
#pragma unroll
        for (unsigned corner = 0; corner < T::UNIT * T::UNIT; ++corner)
          store4(to + found[i].to + corner / 2 * T::LINE + corner % 2 * T::BLOCK_N, pieces[i].dz(corner));
      }
    }
    at += stage;
  }
};

// Weights of a stage go to shared memory channels innermost: a thread copies one channel, some of the filters and taps.
struct Weights {
  const float* weight;
  unsigned K, at;     // where the thread's next stage begins
  unsigned tap, end;  // the first of the block's taps, and behind the last

  static constexpr unsigned PAIRS = T::FILTERS * T::BLOCK_CHANNELS, LINE = T::FILTER_LANES * T::BLOCK_CHANNELS;
  static constexpr unsigned FILTERS = PAIRS > T::THREADS ? PAIRS / T::THREADS : 1;  // of a thread, STEP apart
  static constexpr unsigned STEP = T::FILTERS / FILTERS, AT_ONCE = T::THREADS * FILTERS / PAIRS;  // taps at once
  static_assert(T::FILTERS % T::FILTER_LANES == 0 && T::FILTERS % FILTERS == 0 && STEP % T::FILTER_LANES == 0 &&
                    (FILTERS == 1 || PAIRS % T::THREADS == 0),
                "a thread copies one channel");

  static __device__ __forceinline__ unsigned channel(unsigned thread) {
    return thread / T::FILTER_LANES % T::BLOCK_CHANNELS;
  }

  static __device__ __forceinline__ unsigned filter(unsigned thread) {
    return thread / LINE % (STEP / T::FILTER_LANES) * T::FILTER_LANES + thread % T::FILTER_LANES;
  }

  __device__ __forceinline__ Weights(const Layer& layer, const Block& block)
      : weight(layer.weight), K(layer.K), tap(block.r * T::S), end(block.r_end * T::S) {
    const unsigned c = min(block.c + channel(threadIdx.x), layer.C - 1);
    at = (c * (T::R * T::S) + tap + threadIdx.x * FILTERS / PAIRS) * K + filter(threadIdx.x);
  }

  __device__ __forceinline__ void start(float* weights) {
    const unsigned thread = opaque(threadIdx.x), first = tap + thread * FILTERS / PAIRS;
    const float* from = weight + at;
    float* to = weights + filter(thread) * T::WEIGHTS + first * T::BLOCK_CHANNELS + channel(thread);
    at += T::FILTERS;
    if (T::THREADS * FILTERS % PAIRS && thread * FILTERS >= AT_ONCE * PAIRS) return;  // no whole set of pairs is left
#pragma unroll 4
    for (unsigned i = first; i < end; i += AT_ONCE, from += AT_ONCE * K, to += AT_ONCE * T::BLOCK_CHANNELS)
#pragma unroll
      for (unsigned f = 0; f < FILTERS; ++f) copy_async<4>(to + f * STEP * T::WEIGHTS, from + f * STEP);
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

// What a thread computes: its first channel and image, its row and its split.
struct Share {
  unsigned c, h, n, split;

  __device__ __forceinline__ Share(const Block& block, unsigned thread)
      : c(block.c + thread % T::GROUP / T::LANES * T::CHANNELS),
        h(block.h + thread / (T::GROUP * T::SPLITS)),
        n(block.n + thread % T::LANES * 4),
        split(thread / T::GROUP % T::SPLITS) {}
};

// Stores the sums, those of the splits added by way of `all`.
__device__ __forceinline__ void finish(const Layer& layer, const Sums& sums, float* all) {
  const unsigned thread = opaque(threadIdx.x), N = layer.N, plane = layer.H * T::W * N;
  const Share mine(Block(layer, opaque(blockIdx.x), opaque(blockIdx.y)), thread);
  const bool inside = mine.h < layer.H && mine.n < N;
  float* to = layer.dx + (mine.c * layer.H + mine.h) * T::W * N + mine.n;
  if constexpr (T::SPLITS == 1) {
#pragma unroll
    for (unsigned c = 0; c < T::CHANNELS; ++c, to += plane) {
      if (!inside || mine.c + c >= layer.C) return;
#pragma unroll
      for (unsigned w = 0; w < T::W; ++w) store4(to + w * N, sums.at[c][w]);
    }
  } else {
    constexpr unsigned LINE = T::GROUP * T::ROWS * 4;  // of all threads of a split
    all += (thread / (T::GROUP * T::SPLITS) * T::GROUP + thread % T::GROUP) * 4;
#pragma unroll
    for (unsigned c = 0; c < T::CHANNELS; ++c, to += plane) {
      __syncthreads();  // what is overwritten has been read
#pragma unroll
      for (unsigned w = 0; w < T::W; ++w) store4(all + (mine.split * T::W + w) * LINE, sums.at[c][w]);
      __syncthreads();
      if (!inside || mine.c + c >= layer.C) continue;
#pragma unroll 1
      for (unsigned w = mine.split; w < T::W; w += T::SPLITS) {
        float4 sum = load4(all + w * LINE);
#pragma unroll
        for (unsigned split = 1; split < T::SPLITS; ++split)
          multiply_add(sum, 1.0f, load4(all + (split * T::W + w) * LINE));
        store4(to + w * N, sum);
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(T::THREADS, T::BLOCKS)
    conv2d_backward_data_specialised(const float* __restrict__ weight, const float* __restrict__ gradient,
                                     const void* __restrict__ saved, float* __restrict__ dx, unsigned C, unsigned H,
                                     unsigned N, unsigned K) {
  extern __shared__ __align__(
      16) float shared[];  // two stages, each dz, then weights; what copies of the gradient bring
  __shared__ Cell cells[T::CELLS];
  const Layer layer = {weight, gradient, saved, dx, C, H, N, K, H - T::R + 1};
  const Block block(layer, blockIdx.x, blockIdx.y);
  const Share mine(block, threadIdx.x);

  find_cells(cells, layer, block);
  __syncthreads();
  Gradient next(layer, block);
  Weights weights(layer, block);
  float* const raw = shared + 2 * T::STAGE;
  next.begin(raw, cells);
  commit_async();
  wait_async<0>();
  weights.start(shared + T::FILTERS * T::PATCH);
  next.turn(shared, raw, cells, T::FILTERS < K);
  commit_async();
  Sums sums;
  sums.clear();

  const unsigned r_first = mine.h < layer.P ? 0 : mine.h - (layer.P - 1),
                 r_end = mine.h < H ? min(mine.h + 1, T::R) : 0;
  const unsigned row_at = mine.split * T::PATCH + (mine.h - block.p - r_first) * T::LINE + threadIdx.x % T::LANES * 4;
  const unsigned taps_at = T::FILTERS * T::PATCH + mine.split * T::WEIGHTS + r_first * T::S * T::BLOCK_CHANNELS +
                           threadIdx.x % T::GROUP / T::LANES * T::CHANNELS;
  float *stage = shared, *other = shared + T::STAGE;
#pragma unroll 1
  for (unsigned k = 0; k < K; k += T::FILTERS) {
    wait_async<0>();
    __syncthreads();  // this stage is there, and nobody reads the other one any more
    if (k + T::FILTERS < K) {
      weights.start(other + T::FILTERS * T::PATCH);
      next.turn(other, raw, cells, k + 2 * T::FILTERS < K);
    }
    commit_async();
    const float *row = stage + row_at, *taps = stage + taps_at;
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
  finish(layer, sums, shared);
}
