// conv2d_forward_mma: conv2d_forward's convolution, untied bias, ReLU and 2×2 max-pool on tensor cores.
//
//   z[k, p, q, n] = Σ_{c,r,s} weight[c, r, s, k] · x[c, p + r, q + s, n] + bias[k, p, q], at most 4,096 terms
//   y and code of the forms PLAIN, RELU and POOL: see conv2d/forward.cu
//
// Arrays     as in conv2d/forward.cu, N and K multiples of 4. bf16: x, weight and y are bfloat16, N and K multiples of
//            8, and no code is written: it is for prediction alone.
// Tile       TILE gives the filters' extents R × S; FLAT; and what a block has: warps along images, filters, windows of
//            2×2 positions and parts of the channels. A warp has 16·M images × 8·J filters × the positions of a window.
// Threads    along the grid images innermost, then windows, then filters. A product of mma.sync is of 16 images × 8 (bf16:
//            16) terms × 8 filters, so that the four positions of a window are four sums of a lane.
// Shared     a patch of x and the weights of some channels; from channel to channel it is 8 numbers, modulo the 128 bytes
//            of the banks, so that what a warp loads at once lies in different ones. Stages of 8 (16) channels a part are
//            copied while those before are multiplied, a few rows of the filters at a time. By FLAT channels, too few to
//            fill a product, terms are the taps (c, r, s) in a row, all is there at once, and tap i begins at 8·i.
// NaN, ties  as in conv2d/forward.cu; by fp32x3 an infinity may give NaN, as it is taken apart.
// Versions   tf32         operands rounded to tf32 where they are loaded, float32 sums
//            fp32x3       three products, of the rounded operands and of what rounding left: float32's error
//            bf16         bfloat16 arrays, transposed by ldmatrix as they are loaded

#include "../include/async_copy.cuh"
#include "../include/float4.cuh"
#include "../include/mma.cuh"
#include "../include/padded.cuh"
#include "window.cuh"

#ifndef TILE  // the second convolution of the published network
#define TILE 5, 5, 0, 1, 4, 1, 2, 2, 2, 1, 1
#endif

__device__ constexpr unsigned at_least_one(unsigned count) { return count > 0 ? count : 1; }

// FLAT: the number of channels, or 0 where terms run over the channels of one tap. ROWS: rows of the filters a stage.
template <unsigned R_, unsigned S_, unsigned FLAT_, unsigned M_, unsigned J_, unsigned WARPS_N_, unsigned WARPS_K_,
          unsigned WINDOW_ROWS_, unsigned WINDOW_COLUMNS_, unsigned PARTS_, unsigned ROWS_>
struct Tile {
  static constexpr unsigned R = R_, S = S_, FLAT = FLAT_, M = M_, J = J_, WARPS_N = WARPS_N_, WARPS_K = WARPS_K_;
  static constexpr unsigned WINDOW_ROWS = WINDOW_ROWS_, WINDOW_COLUMNS = WINDOW_COLUMNS_, PARTS = PARTS_, ROWS = ROWS_;
  static constexpr unsigned IMAGES = 16 * M * WARPS_N, FILTERS = 8 * J * WARPS_K;
  static constexpr unsigned PART_THREADS = 32 * WARPS_N * WARPS_K * WINDOW_ROWS * WINDOW_COLUMNS;
  static constexpr unsigned THREADS = PART_THREADS * PARTS;
  // Blocks at once on a multiprocessor, for which the registers are to be enough.
  static constexpr unsigned BLOCKS = at_least_one((M * J > 4 ? 256 : 512) / THREADS);
  static constexpr unsigned BLOCKS_WITH_RESTS = at_least_one(256 / THREADS);
  static constexpr unsigned HEIGHT = R + 2 * WINDOW_ROWS - 1, WIDTH = S + 2 * WINDOW_COLUMNS - 1;  // of the patch
  static_assert(R % ROWS == 0 && (FLAT == 0 || PARTS == 1), "whole stages; flat terms are not parted");
  static_assert(J % 2 == 0, "bfloat16 filters are loaded by two products");
};

constexpr unsigned NO_TAP = ~0u;  // beyond the last one

template <unsigned PRECISION>
struct Format {
  using Element = float;
  static constexpr unsigned DEPTH = 8;  // terms of a product
};

template <>
struct Format<BF16> {
  using Element = unsigned short;
  static constexpr unsigned DEPTH = 16;
};

// Where things lie in shared memory, in elements.
template <class T, unsigned PRECISION>
struct Layout {
  using Element = typename Format<PRECISION>::Element;
  static constexpr unsigned DEPTH = Format<PRECISION>::DEPTH, PERIOD = 128 / sizeof(Element);
  static constexpr unsigned CHANNELS = T::FLAT ? T::FLAT : DEPTH * T::PARTS;  // of a stage
  static constexpr unsigned STAGES = T::FLAT ? 1 : 2;

  static constexpr unsigned POSITION = T::FLAT ? padded(T::IMAGES, 8, PERIOD) : T::IMAGES;
  static constexpr unsigned ROW = padded(T::WIDTH * POSITION, T::FLAT ? 8 * T::S % PERIOD : 0, T::FLAT ? PERIOD : 1);
  static constexpr unsigned CHANNEL = padded(T::HEIGHT * ROW, (T::FLAT ? 8 * T::R * T::S : 8) % PERIOD, PERIOD);
  static constexpr unsigned ZEROS = T::FLAT ? ROW + POSITION + T::IMAGES : 0;  // what a tap beyond the last one reads
  static constexpr unsigned PATCH = CHANNELS * CHANNEL + ZEROS;

  static constexpr unsigned TAPS = T::FLAT * T::R * T::S;  // of FLAT terms
  static constexpr unsigned STEPS = (TAPS + DEPTH - 1) / DEPTH;
  static constexpr unsigned TAP = T::FLAT ? padded(T::FILTERS, 8, PERIOD) : T::FILTERS;
  static constexpr unsigned WEIGHT_CHANNEL = padded(T::ROWS * T::S * TAP, 8, PERIOD);
  static constexpr unsigned WEIGHTS = T::FLAT ? STEPS * DEPTH * TAP : CHANNELS * WEIGHT_CHANNEL;
  // By FLAT a table follows: where in the patch each tap is.

  // Of a tap of the patch; c = 0 where the terms are not flat.
  static __device__ __forceinline__ unsigned tap(unsigned c, unsigned r, unsigned s) {
    return c * CHANNEL + r * ROW + s * POSITION;
  }
};

// Who a thread is in its block.
template <class T>
struct Lane {
  unsigned lane, n, k, row, column, part;  // the warp's first image and filter, window and part of the channels

  static __device__ __forceinline__ Lane get() {
    const unsigned warp = threadIdx.x / 32;
    return {threadIdx.x % 32,
            warp % T::WARPS_N * 16 * T::M,
            warp / T::WARPS_N % T::WARPS_K * 8 * T::J,
            warp / (T::WARPS_N * T::WARPS_K) / T::WINDOW_COLUMNS % T::WINDOW_ROWS,
            warp / (T::WARPS_N * T::WARPS_K) % T::WINDOW_COLUMNS,
            threadIdx.x / T::PART_THREADS};
  }
};

// Copies from x and weight; zeros beyond the arrays.
template <class T, unsigned PRECISION>
struct Copies {
  using Plan = Layout<T, PRECISION>;
  using Element = typename Plan::Element;
  static constexpr unsigned WIDTH = 16 / sizeof(Element);
  const Element *x, *weight;
  unsigned C, H, W, N, K;
  unsigned n0, h0, w0, k0;  // where the block's images, patch and filters begin

  // Some of the patch of the channels from c0 on: rows `first` to `end` of channel and row, each by a warp.
  __device__ __forceinline__ void patch(Element* to, unsigned c0, unsigned first, unsigned end) const {
    constexpr unsigned LINE = T::IMAGES / WIDTH, COLUMNS = 32 / LINE;  // that a warp copies at once
    static_assert(32 % LINE == 0, "a thread always has the same images");
    const unsigned lane = threadIdx.x % LINE * WIDTH, column = threadIdx.x % 32 / LINE, n = n0 + lane;
#pragma unroll 1
    for (unsigned at = first + threadIdx.x / 32; at < end; at += T::THREADS / 32) {
      const unsigned channel = at / T::HEIGHT, row = at % T::HEIGHT, c = c0 + channel, h = h0 + row;
      const Element* const from = x + ((c * H + h) * W + w0 + column) * N + n;
      Element* const into = to + Plan::tap(channel, row, column) + lane;
      const unsigned width = c < C && h < H && n < N ? W : 0;
#pragma unroll
      for (unsigned i = 0; i < T::WIDTH; i += COLUMNS)
        if (i + COLUMNS <= T::WIDTH || i + column < T::WIDTH) {
          const bool inside = w0 + i + column < width;
          copy_async<16>(into + i * Plan::POSITION, inside ? from + i * N : x, inside ? 16 : 0);
        }
    }
  }

  // ROWS rows of the filters, from r0 on, of the channels from c0 on, each by a warp.
  __device__ __forceinline__ void weights(Element* to, unsigned c0, unsigned r0) const {
    constexpr unsigned LINE = T::FILTERS / WIDTH, TAPS = T::ROWS * T::S, AT_ONCE = 32 / LINE;
    static_assert(32 % LINE == 0, "a thread always has the same filters");
    const unsigned lane = threadIdx.x % LINE * WIDTH, tap = threadIdx.x % 32 / LINE, k = k0 + lane;
#pragma unroll 1
    for (unsigned channel = threadIdx.x / 32; channel < Plan::CHANNELS; channel += T::THREADS / 32) {
      const unsigned c = c0 + channel;
      const Element* const from = weight + ((c * T::R + r0) * T::S + tap) * K + k;
      Element* const into = to + channel * Plan::WEIGHT_CHANNEL + tap * Plan::TAP + lane;
      const bool inside = c < C && k < K;
#pragma unroll
      for (unsigned i = 0; i < TAPS; i += AT_ONCE)
        if (i + AT_ONCE <= TAPS || i + tap < TAPS)
          copy_async<16>(into + i * Plan::TAP, inside ? from + i * K : weight, inside ? 16 : 0);
    }
  }

  // All of the flat terms.
  __device__ __forceinline__ void flat_weights(Element* to) const {
    constexpr unsigned LINE = T::FILTERS / WIDTH;
    const unsigned lane = threadIdx.x % LINE * WIDTH, k = k0 + lane;
#pragma unroll 1
    for (unsigned tap = threadIdx.x / LINE; tap < Plan::STEPS * Plan::DEPTH; tap += T::THREADS / LINE) {
      const bool inside = tap < Plan::TAPS && k < K;
      copy_async<16>(to + tap * Plan::TAP + lane, inside ? weight + tap * K + k : weight, inside ? 16 : 0);
    }
  }
};

// Operands of a lane. tf32, fp32x3: terms t and t + 4, at `low` and `high`; images 2g and 2g + 1 are rows g and g + 8 of
// a product. bf16: as ldmatrix gives them, from `low` alone.
template <class T, unsigned PRECISION>
struct Operands {
  using Element = typename Format<PRECISION>::Element;
  static constexpr bool IS_ROUNDED = T::FLAT && PRECISION == TF32;  // in shared memory

  // Of inputs that are read as the operand: term and image; of weights: term and filter.
  static __device__ __forceinline__ unsigned input_term(unsigned lane) {
    return PRECISION == BF16 ? lane % 8 + lane / 16 * 8 : lane % 4;
  }
  static __device__ __forceinline__ unsigned input_image(unsigned lane) {
    return PRECISION == BF16 ? lane / 8 % 2 * 8 : lane / 4 * 2;
  }
  static __device__ __forceinline__ unsigned weight_term(unsigned lane) {
    return PRECISION == BF16 ? lane % 16 : lane % 4;
  }
  static __device__ __forceinline__ unsigned weight_filter(unsigned lane) {
    return PRECISION == BF16 ? lane / 16 * 8 : lane / 4;
  }

  template <unsigned COUNT>
  static __device__ __forceinline__ void set(Fragment<COUNT, PRECISION>& fragment, unsigned i, float value) {
    if constexpr (IS_ROUNDED)
      fragment.rounded[i] = __float_as_uint(value);
    else
      fragment.set(i, value);
  }

  // The inputs of one position.
  struct Inputs {
    Fragment<4, PRECISION> of[T::M];

    __device__ __forceinline__ void load(const Element* low, const Element* high) {
#pragma unroll
      for (unsigned m = 0; m < T::M; ++m) {
        if constexpr (PRECISION == BF16) {
          load_matrices_transposed(of[m].rounded, low + 16 * m);
        } else {
          const float2 first = *reinterpret_cast<const float2*>(low + 16 * m);
          const float2 second = *reinterpret_cast<const float2*>(high + 16 * m);
          set(of[m], 0, first.x);
          set(of[m], 1, first.y);
          set(of[m], 2, second.x);
          set(of[m], 3, second.y);
        }
      }
    }
  };

  struct Weights {
    Fragment<2, PRECISION> of[T::J];

    __device__ __forceinline__ void load(const Element* low, const Element* high) {
      if constexpr (PRECISION == BF16) {
#pragma unroll
        for (unsigned j = 0; j < T::J; j += 2) {
          unsigned both[4];
          load_matrices_transposed(both, low + 8 * j);
          of[j].rounded[0] = both[0];
          of[j].rounded[1] = both[1];
          of[j + 1].rounded[0] = both[2];
          of[j + 1].rounded[1] = both[3];
        }
      } else {
#pragma unroll
        for (unsigned j = 0; j < T::J;
             ++j) {  // one by one: of a longer load the pairs (low, high) would be put together
          set(of[j], 0, low[8 * j]);
          set(of[j], 1, high[8 * j]);
        }
      }
    }
  };
};

// The sums of a lane: position (bit 1: row, bit 0: column), images, filters, element of the product.
template <class T, unsigned PRECISION>
struct Sums {
  using Plan = Layout<T, PRECISION>;
  using Element = typename Plan::Element;
  using Operand = Operands<T, PRECISION>;
  float at[4][T::M][T::J][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (unsigned position = 0; position < 4; ++position)
#pragma unroll
      for (unsigned m = 0; m < T::M; ++m)
#pragma unroll
        for (unsigned j = 0; j < T::J; ++j)
#pragma unroll
          for (unsigned i = 0; i < 4; ++i) at[position][m][j][i] = 0;
  }

  __device__ __forceinline__ void add(unsigned position, const typename Operand::Inputs& x,
                                      const typename Operand::Weights& weights) {
#pragma unroll
    for (unsigned m = 0; m < T::M; ++m) multiply(at[position][m], x.of[m], weights.of);
  }

  // One row of taps of DEPTH channels, sliding along s: of a window four columns of two rows are new, two of them known.
  __device__ __forceinline__ void add_row(const Element* x, const Element* weight) {
    constexpr unsigned HIGH = 4 * Plan::CHANNEL, WEIGHT_HIGH = 4 * Plan::WEIGHT_CHANNEL;
    typename Operand::Inputs left[2], right[2];
    constexpr unsigned UNROLL = PRECISION == FP32X3 ? 1 : T::S;  // all rests at once would be too many registers
#pragma unroll
    for (unsigned row = 0; row < 2; ++row) left[row].load(x + row * Plan::ROW, x + row * Plan::ROW + HIGH);
#pragma unroll UNROLL
    for (unsigned s = 0; s < T::S; ++s) {
      typename Operand::Weights weights;
      weights.load(weight + s * Plan::TAP, weight + s * Plan::TAP + WEIGHT_HIGH);
#pragma unroll
      for (unsigned row = 0; row < 2; ++row) {
        const Element* from = x + row * Plan::ROW + (s + 1) * Plan::POSITION;
        right[row].load(from, from + HIGH);
        add(2 * row, left[row], weights);
        add(2 * row + 1, right[row], weights);
        left[row] = right[row];
      }
    }
  }

  // All flat terms. `taps`: of the table, from the lane's first one on; `zeros` is read for taps beyond the last one.
  __device__ __forceinline__ void add_flat(const Element* x, const Element* zeros, const Element* weight,
                                           const unsigned* taps) {
#pragma unroll 1
    for (unsigned step = 0; step < Plan::STEPS; ++step, weight += Plan::DEPTH * Plan::TAP, taps += Plan::DEPTH) {
      const Element* low = at_tap(x, zeros, taps[0]);
      const Element* high = PRECISION == BF16 ? low : at_tap(x, zeros, taps[4]);
      typename Operand::Weights weights;
      weights.load(weight, weight + 4 * Plan::TAP);
#pragma unroll
      for (unsigned position = 0; position < 4; ++position) {
        const unsigned offset = Plan::tap(0, position / 2, position % 2);
        typename Operand::Inputs inputs;
        inputs.load(low + offset, high + offset);
        add(position, inputs, weights);
      }
    }
  }

  static __device__ __forceinline__ const Element* at_tap(const Element* x, const Element* zeros, unsigned tap) {
    return tap == NO_TAP ? zeros : x + tap;
  }
};

// Where the sums of a warp go.
template <class T, unsigned PRECISION>
struct Output {
  using Element = typename Format<PRECISION>::Element;
  const float* bias;
  Element* y;
  unsigned char* code;
  unsigned K, epilogue;
  unsigned n0, k0;  // the warp's first image and filter
  Window window;    // of k = 0

  // The sums of product (m, j): by position, element.
  __device__ __forceinline__ void store(unsigned m, unsigned j, const float (&sums)[4][4]) const {
    const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (unsigned e = 0; e < 2; ++e) {
      const unsigned column = 2 * t + e, n = n0 + 16 * m + (PRECISION == BF16 ? g : 2 * g);
      Window here = window;
      here.k = k0 + 8 * j + column;
      if (here.k >= K) continue;
      float z[2][4];
#pragma unroll
      for (unsigned position = 0; position < 4; ++position) {
        const float b = here.has(position) ? bias[here.sum_offset(position)] : 0.0f;
        z[0][position] = activated(sums[position][e] + b, epilogue);
        z[1][position] = activated(sums[position][2 + e] + b, epilogue);
        if (epilogue != POOL && here.has(position))
          put(here.sum_offset(position) * here.N + n, n, z[0][position], z[1][position]);
      }
      if (epilogue == POOL && here.has(0)) {
        const unsigned at = here.pooled_offset() * here.N + n;
        unsigned char codes[2];
        const float first = here.pooled(z[0], codes[0]), second = here.pooled(z[1], codes[1]);
        put(at, n, first, second);
        if (PRECISION != BF16 && n < here.N) *reinterpret_cast<uchar2*>(code + at) = make_uchar2(codes[0], codes[1]);
      }
    }
  }

  // Two images: n and n + 1, of which both or none is there; by bf16 n and n + 8.
  __device__ __forceinline__ void put(unsigned at, unsigned n, float first, float second) const {
    if constexpr (PRECISION == BF16) {
      if (n < window.N) y[at] = to_bf16(first);
      if (n + 8 < window.N) y[at + 8] = to_bf16(second);
    } else {
      if (n < window.N) *reinterpret_cast<float2*>(y + at) = make_float2(first, second);
    }
  }
};

template <unsigned PRECISION, class T>
__device__ __forceinline__ void forward(const typename Format<PRECISION>::Element* __restrict__ x,
                                        const typename Format<PRECISION>::Element* __restrict__ weight,
                                        const float* __restrict__ bias,
                                        typename Format<PRECISION>::Element* __restrict__ y,
                                        unsigned char* __restrict__ code, unsigned C, unsigned H, unsigned W,
                                        unsigned N, unsigned K, unsigned epilogue) {
  using Plan = Layout<T, PRECISION>;
  using Element = typename Plan::Element;
  using Operand = Operands<T, PRECISION>;
  extern __shared__ __align__(16) float shared[];
  Element* const patches = reinterpret_cast<Element*>(shared);
  Element* const weights = patches + Plan::STAGES * Plan::PATCH;

  const unsigned P = H - T::R + 1, Q = W - T::S + 1;
  const unsigned images = (N + T::IMAGES - 1) / T::IMAGES;
  const unsigned rows = ((P + 1) / 2 + T::WINDOW_ROWS - 1) / T::WINDOW_ROWS;
  const unsigned columns = ((Q + 1) / 2 + T::WINDOW_COLUMNS - 1) / T::WINDOW_COLUMNS;
  const unsigned n0 = blockIdx.x % images * T::IMAGES, k0 = blockIdx.x / images / columns / rows * T::FILTERS;
  const unsigned i0 = blockIdx.x / images / columns % rows * T::WINDOW_ROWS;
  const unsigned j0 = blockIdx.x / images % columns * T::WINDOW_COLUMNS;
  const Lane<T> me = Lane<T>::get();
  const Copies<T, PRECISION> copies = {x, weight, C, H, W, N, K, n0, 2 * i0, 2 * j0, k0};

  const unsigned input_term = Operand::input_term(me.lane), weight_term = Operand::weight_term(me.lane);
  const unsigned my_input = Plan::tap(0, 2 * me.row, 2 * me.column) + me.n + Operand::input_image(me.lane);
  const unsigned my_weight = me.k + Operand::weight_filter(me.lane);
  Sums<T, PRECISION> sums;
  sums.clear();

  if constexpr (T::FLAT > 0) {
    Element* const zeros = patches + Plan::CHANNELS * Plan::CHANNEL;
    copies.patch(patches, 0, 0, Plan::CHANNELS * T::HEIGHT);
    copies.flat_weights(weights);
    commit_async();
    unsigned* const taps = reinterpret_cast<unsigned*>(weights + Plan::WEIGHTS);
    for (unsigned at = threadIdx.x; at < Plan::ZEROS; at += T::THREADS) zeros[at] = 0;
    for (unsigned tap = threadIdx.x; tap < Plan::STEPS * Plan::DEPTH; tap += T::THREADS)
      taps[tap] = tap < Plan::TAPS ? Plan::tap(tap / (T::R * T::S), tap / T::S % T::R, tap % T::S) : NO_TAP;
    wait_async<0>();
    __syncthreads();
    if constexpr (Operand::IS_ROUNDED) {  // once, where each lane would do it for each tap
      for (unsigned at = 4 * threadIdx.x; at < Plan::PATCH + Plan::WEIGHTS; at += 4 * T::THREADS)
        store4(shared + at, rounded4(load4(shared + at)));
      __syncthreads();
    }
    sums.add_flat(patches + my_input, zeros, weights + weight_term * Plan::TAP + my_weight, taps + input_term);
  } else {
    constexpr unsigned STEPS = T::R / T::ROWS, PATCH_ROWS = Plan::CHANNELS * T::HEIGHT;
    copies.patch(patches, 0, 0, PATCH_ROWS);
    copies.weights(weights, 0, 0);
    commit_async();
    unsigned weight_stage = 0;
#pragma unroll 1
    for (unsigned c0 = 0, patch_stage = 0; c0 < C; c0 += Plan::CHANNELS, patch_stage ^= 1) {
#pragma unroll 1
      for (unsigned step = 0; step < STEPS; ++step, weight_stage ^= 1) {
        wait_async<0>();
        __syncthreads();  // the copies are there, and no thread reads what the next ones overwrite
        const bool last = step + 1 == STEPS;
        if (c0 + Plan::CHANNELS < C)
          copies.patch(patches + (patch_stage ^ 1) * Plan::PATCH, c0 + Plan::CHANNELS, step * PATCH_ROWS / STEPS,
                       (step + 1) * PATCH_ROWS / STEPS);
        if (!last || c0 + Plan::CHANNELS < C)
          copies.weights(weights + (weight_stage ^ 1) * Plan::WEIGHTS, last ? c0 + Plan::CHANNELS : c0,
                         last ? 0 : (step + 1) * T::ROWS);
        commit_async();
        const Element* from = patches + patch_stage * Plan::PATCH + step * T::ROWS * Plan::ROW + my_input +
                              (me.part * Plan::DEPTH + input_term) * Plan::CHANNEL;
        const Element* by = weights + weight_stage * Plan::WEIGHTS + my_weight +
                            (me.part * Plan::DEPTH + weight_term) * Plan::WEIGHT_CHANNEL;
#pragma unroll 1
        for (unsigned r = 0; r < T::ROWS; ++r) sums.add_row(from + r * Plan::ROW, by + r * T::S * Plan::TAP);
      }
    }
  }

  const Output<T, PRECISION> output = {bias,     y,         code,      K,
                                       epilogue, n0 + me.n, k0 + me.k, {0, i0 + me.row, j0 + me.column, P, Q, N}};
  if constexpr (T::PARTS == 1) {
#pragma unroll
    for (unsigned m = 0; m < T::M; ++m)
#pragma unroll
      for (unsigned j = 0; j < T::J; ++j) {
        const float z[4][4] = {
            {sums.at[0][m][j][0], sums.at[0][m][j][1], sums.at[0][m][j][2], sums.at[0][m][j][3]},
            {sums.at[1][m][j][0], sums.at[1][m][j][1], sums.at[1][m][j][2], sums.at[1][m][j][3]},
            {sums.at[2][m][j][0], sums.at[2][m][j][1], sums.at[2][m][j][2], sums.at[2][m][j][3]},
            {sums.at[3][m][j][0], sums.at[3][m][j][1], sums.at[3][m][j][2], sums.at[3][m][j][3]},
        };
        output.store(m, j, z);
      }
  } else {  // parts are added in their order, each part's threads taking some of the products
    const unsigned thread = threadIdx.x % T::PART_THREADS;
    __syncthreads();  // before the stages are overwritten
#pragma unroll
    for (unsigned m = 0; m < T::M; ++m)
#pragma unroll
      for (unsigned j = 0; j < T::J; ++j)
#pragma unroll
        for (unsigned position = 0; position < 4; ++position) {
          const float (&sum)[4] = sums.at[position][m][j];
          store4(shared + 4 * ((((me.part * T::M + m) * T::J + j) * 4 + position) * T::PART_THREADS + thread),
                 make_float4(sum[0], sum[1], sum[2], sum[3]));
        }
    __syncthreads();
#pragma unroll 1
    for (unsigned product = me.part; product < T::M * T::J; product += T::PARTS) {
      float z[4][4] = {};
#pragma unroll
      for (unsigned part = 0; part < T::PARTS; ++part)
#pragma unroll
        for (unsigned position = 0; position < 4; ++position) {
          const float4 sum =
              load4(shared + 4 * (((part * T::M * T::J + product) * 4 + position) * T::PART_THREADS + thread));
          z[position][0] += sum.x;
          z[position][1] += sum.y;
          z[position][2] += sum.z;
          z[position][3] += sum.w;
        }
      output.store(product / T::J, product % T::J, z);
    }
  }
}

extern "C" __global__ void __launch_bounds__(Tile<TILE>::THREADS, Tile<TILE>::BLOCKS)
    conv2d_forward_mma_tf32(const float* __restrict__ x, const float* __restrict__ weight,
                            const float* __restrict__ bias, float* __restrict__ y, unsigned char* __restrict__ code,
                            unsigned C, unsigned H, unsigned W, unsigned N, unsigned K, unsigned epilogue) {
  forward<TF32, Tile<TILE>>(x, weight, bias, y, code, C, H, W, N, K, epilogue);
}

extern "C" __global__ void __launch_bounds__(Tile<TILE>::THREADS, Tile<TILE>::BLOCKS_WITH_RESTS)
    conv2d_forward_mma_fp32x3(const float* __restrict__ x, const float* __restrict__ weight,
                              const float* __restrict__ bias, float* __restrict__ y, unsigned char* __restrict__ code,
                              unsigned C, unsigned H, unsigned W, unsigned N, unsigned K, unsigned epilogue) {
  forward<FP32X3, Tile<TILE>>(x, weight, bias, y, code, C, H, W, N, K, epilogue);
}

extern "C" __global__ void __launch_bounds__(Tile<TILE>::THREADS, Tile<TILE>::BLOCKS)
    conv2d_forward_mma_bf16(const unsigned short* __restrict__ x, const unsigned short* __restrict__ weight,
                            const float* __restrict__ bias, unsigned short* __restrict__ y, unsigned C, unsigned H,
                            unsigned W, unsigned N, unsigned K, unsigned epilogue) {
  forward<BF16, Tile<TILE>>(x, weight, bias, y, nullptr, C, H, W, N, K, epilogue);
}
