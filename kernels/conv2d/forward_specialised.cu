// conv2d_forward_specialised: convolution, untied bias, ReLU and 2×2 max-pool in one kernel, compiled once a layer.
//
//   z[k, p, q, n] = bias[k, p, q] + Σ_{c,r,s} weight[c, r, s, k] · x[c, p + r, q + s, n]
//   PLAIN   y = z
//   RELU    y = z < 0 ? 0 : z
//   POOL    y[k, i, j, n] = the largest of the four rectified z at p = 2i, 2i + 1 and q = 2j, 2j + 1;
//           code = mask (bit 2·row + column) of those that equal it and are > 0
//
// Arrays     x (C, H, W, N), weight (C, R, S, K), bias (K, P, Q), P = H − R + 1, Q = W − S + 1; y (K, P, Q, N), by POOL
//            y and code (uint8) (K, ⌈P/2⌉, ⌈Q/2⌉, N): a window over the border takes what is there. N and K are
//            multiples of 4, C of CHANNELS; a sum has at most 4,096 terms a split.
// Threads    A window is ROWS × COLUMNS positions side by side, by POOL 2 × 2; a thread has one of them for FILTERS
//            filters and 4 images. A block has BLOCK_FILTERS filters × BLOCK_N images × WINDOW_ROWS × WINDOW_COLUMNS
//            windows, and all of them SPLITS times: splits share out the channels of a stage, and their sums are added
//            in shared memory in their order. Grid: x filters innermost, then windows along Q; y windows along P; z images.
// NaN, ties  NaN passes through ReLU and pool, with code 0. Positions that tie are all in the code.
// Versions   one, the last of the ladder that begins in conv2d/forward.cu: every size of its loops is a constant, so that
//            all addresses in them are too, and a thread has as many sums as its registers hold

#include "../include/async_copy.cuh"
#include "../include/float4.cuh"
#include "window.cuh"

#ifndef TILE  // template arguments; the binding gives those of a layer: here the second of the published network
#define TILE 5, 5, POOL, 8, 2, 2, 64, 32, 1, 2, 1, 2, 2, 2
#endif

template <unsigned R_, unsigned S_, unsigned EPILOGUE_, unsigned FILTERS_, unsigned ROWS_, unsigned COLUMNS_,
          unsigned BLOCK_FILTERS_, unsigned BLOCK_N_, unsigned WINDOW_ROWS_, unsigned WINDOW_COLUMNS_, unsigned SPLITS_,
          unsigned CHANNELS_, unsigned STAGES_, unsigned BLOCKS_>
struct Tile {
  static constexpr unsigned R = R_, S = S_, EPILOGUE = EPILOGUE_, FILTERS = FILTERS_, ROWS = ROWS_, COLUMNS = COLUMNS_;
  static constexpr unsigned BLOCK_FILTERS = BLOCK_FILTERS_, BLOCK_N = BLOCK_N_;
  static constexpr unsigned WINDOW_ROWS = WINDOW_ROWS_, WINDOW_COLUMNS = WINDOW_COLUMNS_, SPLITS = SPLITS_;
  static constexpr unsigned CHANNELS = CHANNELS_, STAGES = STAGES_;  // channels a stage, stages in shared memory
  static constexpr unsigned BLOCKS = BLOCKS_;                        // at once on a multiprocessor

  static constexpr unsigned LANES = BLOCK_N / 4, FILTER_LANES = BLOCK_FILTERS / FILTERS;  // threads along n and k
  static constexpr unsigned GROUP = LANES * FILTER_LANES * WINDOW_ROWS * WINDOW_COLUMNS;  // threads of a split
  static constexpr unsigned THREADS = GROUP * SPLITS;
  static constexpr unsigned PATCH_COLUMNS = WINDOW_COLUMNS * COLUMNS + S - 1;
  static constexpr unsigned POSITIONS = (WINDOW_ROWS * ROWS + R - 1) * PATCH_COLUMNS;
  static constexpr unsigned PATCH = POSITIONS * BLOCK_N, TAPS = R * S, WEIGHTS = TAPS * BLOCK_FILTERS;  // of a channel
  static constexpr unsigned STAGE = CHANNELS * (PATCH + WEIGHTS);

  // Rows of a filter that one turn of a loop takes: more than 12 taps are long, and let loads begin so early that they
  // run out of registers.
  static __device__ constexpr unsigned unrolled() {
    unsigned rows = R;
    while (rows > 1 && (R % rows || rows * S > 12)) --rows;
    return rows;
  }
  static constexpr unsigned UNROLLED = unrolled();

  static_assert(EPILOGUE != POOL || (ROWS == 2 && COLUMNS == 2), "a thread pools its own sums");
  static_assert(FILTERS % 4 == 0 && BLOCK_FILTERS % FILTERS == 0 && BLOCK_N % 4 == 0, "four numbers a load");
  static_assert(CHANNELS % SPLITS == 0 && FILTERS % SPLITS == 0, "splits have equal shares");
  static_assert(THREADS % LANES == 0 && THREADS % (BLOCK_FILTERS / 4) == 0, "a thread copies one column of a line");
};

using T = Tile<TILE>;

struct Layer {
  const float *x, *weight, *bias;
  float* y;
  unsigned char* code;
  unsigned C, H, W, N, K;
  unsigned P, Q;
};

// Where a block's filters, positions and images begin.
struct Origin {
  unsigned k, p, q, n;
};

__device__ __forceinline__ Origin origin(const Layer& layer) {
  const unsigned filters = (layer.K + T::BLOCK_FILTERS - 1) / T::BLOCK_FILTERS;
  return {blockIdx.x % filters * T::BLOCK_FILTERS, blockIdx.y * T::WINDOW_ROWS * T::ROWS,
          blockIdx.x / filters * T::WINDOW_COLUMNS * T::COLUMNS, blockIdx.z * T::BLOCK_N};
}

// What a thread computes: its first filter, position and image, counted from its block's, and its split.
struct Share {
  unsigned k, p, q, n, split;
};

__device__ __forceinline__ Share share() {
  const unsigned t = threadIdx.x, window = t / (T::LANES * T::FILTER_LANES) % (T::WINDOW_ROWS * T::WINDOW_COLUMNS);
  return {4 * (t / T::LANES % T::FILTER_LANES), window / T::WINDOW_COLUMNS * T::ROWS,
          window % T::WINDOW_COLUMNS * T::COLUMNS, 4 * (t % T::LANES), t / T::GROUP};
}

// Filter f of a thread, counted from its first: by fours, which lie side by side with those of the next thread.
__device__ __forceinline__ constexpr unsigned filter(unsigned f) { return f / 4 * 4 * T::FILTER_LANES + f % 4; }

// Where the positions of the block's patch begin in a channel of x, once for all stages. Beyond the image it is the last
// position: what lies beyond an array only comes to sums that are not stored, so that copies need no condition.
__device__ __forceinline__ void find_positions(unsigned* offsets, const Layer& layer, const Origin& block) {
#pragma unroll 1
  for (unsigned position = threadIdx.x; position < T::POSITIONS; position += T::THREADS) {
    const unsigned h = min(block.p + position / T::PATCH_COLUMNS, layer.H - 1);
    const unsigned w = min(block.q + position % T::PATCH_COLUMNS, layer.W - 1);
    offsets[position] = (h * layer.W + w) * layer.N;
  }
}

// What a thread copies: some positions and taps of each channel, always the same four images and four filters.
struct Copies {
  const float *x, *weight;  // of the next stage
  unsigned plane, line;     // a channel of x, a tap

  __device__ __forceinline__ Copies(const Layer& layer, const Origin& block)
      : x(layer.x + min(block.n + threadIdx.x % T::LANES * 4, layer.N - 4)),
        weight(layer.weight + threadIdx.x / LINE * layer.K + min(block.k + threadIdx.x % LINE * 4, layer.K - 4)),
        plane(layer.H * layer.W * layer.N),
        line(layer.K) {}

  // The next stage: the patches of its channels, then their weights.
  __device__ __forceinline__ void start(float* to, const unsigned* offsets) {
    constexpr unsigned AT_ONCE = T::THREADS / T::LANES, STEP = T::THREADS / LINE, TAPS = T::CHANNELS * T::TAPS;
    float* patch = to + threadIdx.x * 4;
#pragma unroll
    for (unsigned i = 0; i < (T::POSITIONS + AT_ONCE - 1) / AT_ONCE; ++i) {
      const unsigned position = threadIdx.x / T::LANES + i * AT_ONCE;
      if ((i + 1) * AT_ONCE > T::POSITIONS && position >= T::POSITIONS) break;
      const float* from = x + offsets[position];
#pragma unroll
      for (unsigned c = 0; c < T::CHANNELS; ++c, from += plane)
        copy_async<16>(patch + c * T::PATCH + i * T::THREADS * 4, from);
    }
    float* taps = to + T::CHANNELS * T::PATCH + threadIdx.x * 4;
    const float* from = weight;
#pragma unroll
    for (unsigned i = 0; i < (TAPS + STEP - 1) / STEP; ++i, from += STEP * line) {
      if ((i + 1) * STEP > TAPS && threadIdx.x / LINE + i * STEP >= TAPS) break;
      copy_async<16>(taps + i * T::THREADS * 4, from);
    }
    x += T::CHANNELS * plane;
    weight += TAPS * line;
  }

  static constexpr unsigned LINE = T::BLOCK_FILTERS / 4;  // threads along a tap's filters
};

struct Sums {
  float4 at[T::FILTERS][T::ROWS][T::COLUMNS];

  // The first split begins with the bias, which arrives beside the first stage.
  __device__ __forceinline__ void begin(const Layer& layer, unsigned k, unsigned p, unsigned q, unsigned split) {
    const unsigned plane = layer.P * layer.Q;
#pragma unroll
    for (unsigned f = 0; f < T::FILTERS; ++f) {
      const float* bias = layer.bias + (min(k + filter(f / 4 * 4), layer.K - 4) + f % 4) * plane;
#pragma unroll
      for (unsigned row = 0; row < T::ROWS; ++row)
#pragma unroll
        for (unsigned column = 0; column < T::COLUMNS; ++column) {
          const unsigned there = min(p + row, layer.P - 1) * layer.Q + min(q + column, layer.Q - 1);
          const float b = split == 0 ? bias[there] : 0.0f;
          at[f][row][column] = make_float4(b, b, b, b);
        }
    }
  }

  // One channel of a stage: `patch` at the thread's window and images, `weights` at its filters. Along s, a step reads
  // one new column of the window; the others are those of the step before, one further.
  __device__ __forceinline__ void accumulate(const float* patch, const float* weights) {
#pragma unroll T::UNROLLED
    for (unsigned r = 0; r < T::R; ++r) {
      const float* from = patch + r * T::PATCH_COLUMNS * T::BLOCK_N;
      const float* taps = weights + r * T::S * T::BLOCK_FILTERS;
      float4 x[T::ROWS][T::COLUMNS];  // column j of the image at j % COLUMNS
#pragma unroll
      for (unsigned j = 0; j < T::S + T::COLUMNS - 1; ++j) {
#pragma unroll
        for (unsigned row = 0; row < T::ROWS; ++row)
          x[row][j % T::COLUMNS] = load4(from + (row * T::PATCH_COLUMNS + j) * T::BLOCK_N);
        if (j + 1 < T::COLUMNS) continue;
        const unsigned s = j + 1 - T::COLUMNS;
#pragma unroll
        for (unsigned four = 0; four < T::FILTERS; four += 4) {
          const float4 w = load4(taps + s * T::BLOCK_FILTERS + filter(four));
          multiply(four + 0, w.x, s, x);
          multiply(four + 1, w.y, s, x);
          multiply(four + 2, w.z, s, x);
          multiply(four + 3, w.w, s, x);
        }
      }
    }
  }

  __device__ __forceinline__ void multiply(unsigned f, float weight, unsigned s,
                                           const float4 (&x)[T::ROWS][T::COLUMNS]) {
#pragma unroll
    for (unsigned row = 0; row < T::ROWS; ++row)
#pragma unroll
      for (unsigned column = 0; column < T::COLUMNS; ++column)
        multiply_add(at[f][row][column], weight, x[row][(s + column) % T::COLUMNS]);
  }
};

// Stores the results of filter k at a window, which begins at p, q, n.
__device__ __forceinline__ void finish(const Layer& layer, unsigned k, unsigned p, unsigned q, unsigned n,
                                       float4 (&z)[T::ROWS][T::COLUMNS]) {
  if (k >= layer.K || n >= layer.N) return;
  if constexpr (T::EPILOGUE == POOL) {
    const Window window = {k, p / 2, q / 2, layer.P, layer.Q, layer.N};
    if (!window.has(0)) return;
    const float4 &a = z[0][0], &b = z[0][1], &c = z[1][0], &d = z[1][1];
    const float sums[4][4] = {{a.x, b.x, c.x, d.x}, {a.y, b.y, c.y, d.y}, {a.z, b.z, c.z, d.z}, {a.w, b.w, c.w, d.w}};
    uchar4 code;
    const float4 y = make_float4(window.pooled(sums[0], code.x), window.pooled(sums[1], code.y),
                                 window.pooled(sums[2], code.z), window.pooled(sums[3], code.w));
    const unsigned at = window.pooled_offset() * layer.N + n;
    store4(layer.y + at, y);
    *reinterpret_cast<uchar4*>(layer.code + at) = code;
  } else {
#pragma unroll
    for (unsigned row = 0; row < T::ROWS; ++row)
#pragma unroll
      for (unsigned column = 0; column < T::COLUMNS; ++column) {
        if (p + row >= layer.P || q + column >= layer.Q) continue;
        const float4 sum = z[row][column];
        const float4 y = make_float4(activated(sum.x, T::EPILOGUE), activated(sum.y, T::EPILOGUE),
                                     activated(sum.z, T::EPILOGUE), activated(sum.w, T::EPILOGUE));
        store4(layer.y + ((k * layer.P + p + row) * layer.Q + q + column) * layer.N + n, y);
      }
  }
}

extern "C" __global__ void __launch_bounds__(T::THREADS, T::BLOCKS)
    conv2d_forward_specialised(const float* __restrict__ x, const float* __restrict__ weight,
                               const float* __restrict__ bias, float* __restrict__ y, unsigned char* __restrict__ code,
                               unsigned C, unsigned H, unsigned W, unsigned N, unsigned K) {
  extern __shared__ __align__(16) float stages[];
  __shared__ unsigned offsets[T::POSITIONS];
  const Layer layer = {x, weight, bias, y, code, C, H, W, N, K, H - T::R + 1, W - T::S + 1};
  const Origin block = origin(layer);
  const Share mine = share();
  const unsigned k = block.k + mine.k, p = block.p + mine.p, q = block.q + mine.q, n = block.n + mine.n;

  find_positions(offsets, layer, block);
  __syncthreads();
  Copies copies(layer, block);
  for (unsigned stage = 0; stage + 1 < T::STAGES; ++stage) {
    if (stage * T::CHANNELS < C) copies.start(stages + stage * T::STAGE, offsets);
    commit_async();
  }
  Sums sums;
  sums.begin(layer, k, p, q, mine.split);

  float* stage = stages;
  float* const last = stages + (T::STAGES - 1) * T::STAGE;
#pragma unroll 1
  for (unsigned c0 = 0; c0 < C; c0 += T::CHANNELS) {
    wait_async<T::STAGES - 2>();
    __syncthreads();  // this stage is there, and the one before is read
    if (c0 + (T::STAGES - 1) * T::CHANNELS < C) copies.start(stage == stages ? last : stage - T::STAGE, offsets);
    commit_async();
    const float* patch = stage + mine.split * T::PATCH + (mine.p * T::PATCH_COLUMNS + mine.q) * T::BLOCK_N + mine.n;
    const float* weights = stage + T::CHANNELS * T::PATCH + mine.split * T::WEIGHTS + mine.k;
#pragma unroll 1
    for (unsigned c = 0; c < T::CHANNELS; c += T::SPLITS)
      sums.accumulate(patch + c * T::PATCH, weights + c * T::WEIGHTS);
    stage = stage == last ? stages : stage + T::STAGE;
  }

  if constexpr (T::SPLITS == 1) {
#pragma unroll
    for (unsigned f = 0; f < T::FILTERS; ++f) finish(layer, k + filter(f), p, q, n, sums.at[f]);
  } else {
    constexpr unsigned WINDOW = T::ROWS * T::COLUMNS, SHARE = T::FILTERS / T::SPLITS;
    float* partial = stages + 4 * (threadIdx.x % T::GROUP);  // (split, filter, position, thread of a group)
    __syncthreads();                                         // all stages are read
#pragma unroll
    for (unsigned f = 0; f < T::FILTERS; ++f)
#pragma unroll
      for (unsigned position = 0; position < WINDOW; ++position)
        store4(partial + ((mine.split * T::FILTERS + f) * WINDOW + position) * T::GROUP * 4,
               sums.at[f][position / T::COLUMNS][position % T::COLUMNS]);
    __syncthreads();
#pragma unroll 1
    for (unsigned f = mine.split * SHARE; f < (mine.split + 1) * SHARE; ++f) {
      float4 z[T::ROWS][T::COLUMNS];
#pragma unroll
      for (unsigned position = 0; position < WINDOW; ++position) {
        float4& sum = z[position / T::COLUMNS][position % T::COLUMNS];
        sum = load4(partial + (f * WINDOW + position) * T::GROUP * 4);
#pragma unroll
        for (unsigned split = 1; split < T::SPLITS; ++split)
          multiply_add(sum, 1.0f, load4(partial + ((split * T::FILTERS + f) * WINDOW + position) * T::GROUP * 4));
      }
      finish(layer, k + filter(f), p, q, n, z);
    }
  }
}
