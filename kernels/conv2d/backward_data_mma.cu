// conv2d_backward_data_mma: the gradient of a convolution's input on tensor cores.
//
//   dx[c, h, w, n] = Σ_{k,r,s} weight[c, r, s, k] · dz[k, h − r, w − s, n], over the (r, s) whose position is in dz;
//   at most 4,096 terms
//
// dz is the gradient before ReLU and pool, see gradient.cuh: the forward product with turned filters over dz
// with zeros around it.
//
// Arrays     as in conv2d/backward_data.cu, N and K multiples of 4. A code has no bit of a position beyond the border.
// Tile       TILE gives the filters' extents R × S; the epilogue; and what a block has: warps along images, channels,
//            windows of 2×2 positions of dx and parts of the filters. A warp has 16·M images × 8·J channels × a window.
// Threads    along the grid images innermost, then windows, then channels. A product of mma.sync is of 16 images × 8
//            filters × 8 channels; terms t and t + 4 are filters 2t and 2t + 1, so that a lane finds both weights side
//            by side. A warp leaves out the taps that meet zeros alone.
// Shared     two stages of 8 filters a part: weights, copied as they are, and the patch of dz in cells. A cell is a
//            position, its ReLU undone, or by POOL a window of the pool and its codes, of which a lane takes a position
//            as it reads: four positions for 5 bytes. Cells pass through registers, some of the next stage's during
//            each row of taps. Filters of the patch are 4 words apart modulo 16, channels of the weights 8 modulo 32:
//            no load of operands has a bank conflict. Cells around dz are cleared once.
// NaN        a weight that is not finite makes NaN also where its tap meets the zeros around dz. fp32x3 makes NaN of
//            infinities, as it takes them apart.
// Versions   tf32         operands rounded to tf32, dz on its way to shared memory, weights as they are read
//            fp32x3       three products, of the rounded operands and of what rounding left: float32's error

#include "../include/async_copy.cuh"
#include "../include/float4.cuh"
#include "../include/mma.cuh"
#include "../include/padded.cuh"
#include "epilogue.cuh"

#ifndef TILE  // the second convolution of the published network
#define TILE 5, 5, 2, 1, 4, 1, 1, 2, 4, 1
#endif

template <unsigned R_, unsigned S_, unsigned EPILOGUE_, unsigned M_, unsigned J_, unsigned WARPS_N_, unsigned WARPS_C_,
          unsigned WINDOW_ROWS_, unsigned WINDOW_COLUMNS_, unsigned PARTS_>
struct Tile {
  static constexpr unsigned R = R_, S = S_, EPILOGUE = EPILOGUE_, M = M_, J = J_, WARPS_N = WARPS_N_,
                            WARPS_C = WARPS_C_;
  static constexpr unsigned WINDOW_ROWS = WINDOW_ROWS_, WINDOW_COLUMNS = WINDOW_COLUMNS_, PARTS = PARTS_;
  static constexpr unsigned IMAGES = 16 * M * WARPS_N, CHANNELS = 8 * J * WARPS_C, FILTERS = 8 * PARTS;
  static constexpr unsigned PART_THREADS = 32 * WARPS_N * WARPS_C * WINDOW_ROWS * WINDOW_COLUMNS;
  static constexpr unsigned THREADS = PART_THREADS * PARTS;
  // Of a multiprocessor at once: threads by their registers.
  template <unsigned PRECISION>
  static constexpr unsigned TOGETHER = M * J == 8 || PRECISION == FP32X3 ? 256 : 384;
  template <unsigned PRECISION>
  static constexpr unsigned BLOCKS = THREADS < TOGETHER<PRECISION> ? TOGETHER<PRECISION> / THREADS : 1;
  static_assert(M == 1 || M == 2, "a lane reads two or four images at once");

  // The patch of dz. A window of the pool begins at an even row: with an even R one row before the patch.
  static constexpr bool POOLED = EPILOGUE == POOL;
  static constexpr unsigned HEIGHT = R + 2 * WINDOW_ROWS - 1, WIDTH = S + 2 * WINDOW_COLUMNS - 1;
  static constexpr unsigned ROWS = POOLED ? (HEIGHT + 1) / 2 : HEIGHT, COLUMNS = POOLED ? (WIDTH + 1) / 2 : WIDTH;
  static constexpr unsigned CELLS = ROWS * COLUMNS;
  static constexpr bool QUADS = POOLED && M == 2;  // else registers of a load would not be those of a product
  static constexpr unsigned ROW_SHIFT = POOLED && R % 2 == 0, COLUMN_SHIFT = POOLED && S % 2 == 0;

  // A stage of shared memory, in words: cells, each followed by its codes, then weights.
  static constexpr unsigned CELL = POOLED ? IMAGES + IMAGES / 4 : IMAGES, FILTER = padded(CELLS * CELL, 4, 16);
  static constexpr unsigned WEIGHTS = FILTERS * FILTER, WEIGHT_CHANNEL = padded(R * S * FILTERS, 8, 32);
  static constexpr unsigned STAGE = WEIGHTS + CHANNELS * WEIGHT_CHANNEL;

  // Pieces of a stage's cells are of four images; a thread moves so many during each row of taps.
  static constexpr unsigned LINE = IMAGES / 4, PIECES = FILTERS * CELLS * LINE;
  static_assert(THREADS % LINE == 0, "a thread always has the same images");
  static constexpr unsigned MOVED = (PIECES + R * THREADS - 1) / (R * THREADS);
};

// Who a thread is in its block: its warp's images, channels, window and part of the filters; its lane.
template <class T>
struct Lane {
  unsigned n, c, row, column, part, g, t;

  static __device__ __forceinline__ Lane get() {
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    return {warp % T::WARPS_N * 16 * T::M,
            warp / T::WARPS_N % T::WARPS_C * 8 * T::J,
            warp / (T::WARPS_N * T::WARPS_C) / T::WINDOW_COLUMNS % T::WINDOW_ROWS,
            warp / (T::WARPS_N * T::WARPS_C) % T::WINDOW_COLUMNS,
            threadIdx.x / T::PART_THREADS,
            lane / 4,
            lane % 4};
  }

  // The first that it has of its warp.
  __device__ __forceinline__ unsigned image() const { return T::QUADS ? 4 * g : 2 * g; }
};

// A turned tap r meets rows h + r − (R − 1) and h + r − (R − 1) + 1 of dz in a window from row h on: these taps meet
// more than the zeros around dz. Columns likewise.
struct Taps {
  unsigned first, end;

  static __device__ __forceinline__ Taps of(unsigned h, unsigned H, unsigned R) {
    return {h + 2 < R ? R - 2 - h : 0, h >= H ? 0 : h + R > H ? H - h : R};
  }

  __device__ __forceinline__ bool has(unsigned r) const { return first <= r && r < end; }
};

// Cells of the gradient on their way to shared memory.
template <class T, unsigned PRECISION>
struct Gradient {
  const float* gradient;
  const void* saved;
  unsigned K, rows, columns, N;  // of the gradient
  unsigned n, row0, column0;     // the thread's images, and where the block's cells begin: below 0 by wrapping around

  struct Piece {
    float4 dy, y;   // y by RELU
    unsigned code;  // by POOL, a byte an image
    unsigned to;    // where its cell lies in a stage, or NOWHERE
  };
  static constexpr unsigned NOWHERE = ~0u;

  // Pieces are counted images innermost, then cells, then filters. Those around dz go nowhere.
  __device__ __forceinline__ Piece load(unsigned at, unsigned k0) const {
    const unsigned cell = at / T::LINE % T::CELLS, filter = at / (T::LINE * T::CELLS);
    const unsigned k = k0 + filter, row = row0 + cell / T::COLUMNS, column = column0 + cell % T::COLUMNS;
    Piece piece = {make_float4(0, 0, 0, 0), make_float4(0, 0, 0, 0), 0, NOWHERE};
    if (at >= T::PIECES || row >= rows || column >= columns || n >= N) return piece;
    piece.to = filter * T::FILTER + cell * T::CELL;
    if (k >= K) return piece;
    const unsigned from = ((k * rows + row) * columns + column) * N + n;
    piece.dy = load4(gradient + from);
    if constexpr (T::EPILOGUE == RELU) piece.y = load4(static_cast<const float*>(saved) + from);
    if constexpr (T::POOLED)
      piece.code = *reinterpret_cast<const unsigned*>(static_cast<const unsigned char*>(saved) + from);
    return piece;
  }

  __device__ __forceinline__ void store(float* stage, const Piece& piece) const {
    if (piece.to == NOWHERE) return;
    const float4 dy = piece.dy, y = piece.y;
    float4 dz = dy;
    if constexpr (T::EPILOGUE == RELU)
      dz = make_float4(y.x <= 0 ? 0.0f : dy.x, y.y <= 0 ? 0.0f : dy.y, y.z <= 0 ? 0.0f : dy.z, y.w <= 0 ? 0.0f : dy.w);
    const unsigned lane = threadIdx.x % T::LINE;
    store4(stage + piece.to + 4 * lane,
           make_float4(as_stored(dz.x), as_stored(dz.y), as_stored(dz.z), as_stored(dz.w)));
    if constexpr (T::POOLED) stage[piece.to + T::IMAGES + lane] = __uint_as_float(piece.code);
  }

  static __device__ __forceinline__ float as_stored(float x) {
    return PRECISION == TF32 ? __uint_as_float(to_tf32(x)) : x;
  }
};

template <class T>
__device__ __forceinline__ void copy_weights(float* stage, const float* weight, unsigned C, unsigned K, unsigned c0,
                                             unsigned k0) {
  constexpr unsigned TAPS = T::R * T::S, LINE = T::FILTERS / 4;
#pragma unroll 1
  for (unsigned at = threadIdx.x; at < T::CHANNELS * TAPS * LINE; at += T::THREADS) {
    const unsigned filter = at % LINE * 4, row = at / LINE, channel = row / TAPS;
    const bool inside = c0 + channel < C && k0 + filter < K;
    copy_async<16>(stage + T::WEIGHTS + channel * T::WEIGHT_CHANNEL + row % TAPS * T::FILTERS + filter,
                   inside ? weight + (c0 * TAPS + row) * K + k0 + filter : weight, inside ? 16 : 0);
  }
}

// What a lane reads of one cell: filters 2t and 2t + 1; images 16m + 2g and 16m + 2g + 1, rows g and g + 8 of product
// m, or in QUADS images 4g … 4g + 3, two a product.
template <class T>
struct Cell {
  float value[2][2 * T::M];
  unsigned code[2];  // by POOL, a byte an image, its lowest bits those of the row

  __device__ __forceinline__ void load(const float* values, const unsigned char* codes, unsigned row) {
#pragma unroll
    for (unsigned term = 0; term < 2; ++term) {
      const float* from = values + term * T::FILTER;
      const unsigned char* code_from = codes + term * 4 * T::FILTER;
      if constexpr (T::QUADS) {
        const float4 four = load4(from);
        value[term][0] = four.x;
        value[term][1] = four.y;
        value[term][2] = four.z;
        value[term][3] = four.w;
        code[term] = *reinterpret_cast<const unsigned*>(code_from) >> 2 * row;
      } else {
#pragma unroll
        for (unsigned m = 0; m < T::M; ++m) {
          const float2 two = *reinterpret_cast<const float2*>(from + 16 * m);
          value[term][2 * m] = two.x;
          value[term][2 * m + 1] = two.y;
        }
        if constexpr (T::POOLED) code[term] = *reinterpret_cast<const unsigned short*>(code_from) >> 2 * row;
      }
    }
  }

  // dz of the left or right column, as operands of M products.
  __device__ __forceinline__ void take(float (&dz)[T::M][4], unsigned column) const {
#pragma unroll
    for (unsigned m = 0; m < T::M; ++m)
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) {
        const unsigned image = 2 * m + i % 2, term = i / 2;
        if constexpr (T::POOLED)
          dz[m][i] = code[term] & 1u << (8 * image + column) ? value[term][image] : 0.0f;
        else
          dz[m][i] = value[term][image];
      }
  }
};

// The sums of a lane: position (bit 1: row, bit 0: column), images, channels, element of the product.
template <class T, unsigned PRECISION>
struct Sums {
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

  __device__ __forceinline__ void add(unsigned position, const float (&dz)[T::M][4],
                                      const Fragment<2, PRECISION> (&weights)[T::J]) {
#pragma unroll
    for (unsigned m = 0; m < T::M; ++m) {
      Fragment<4, PRECISION> a;
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) {
        if constexpr (PRECISION == TF32)
          a.rounded[i] = __float_as_uint(dz[m][i]);  // as it lies in shared memory
        else
          a.set(i, dz[m][i]);
      }
      multiply(at[position][m], a, weights);
    }
  }

  // Turned taps of row r, sliding along s: of a window two columns of two rows are new, two are known.
  __device__ __forceinline__ void add_row(const float* stage, const Lane<T>& me, unsigned r, Taps taps) {
    const unsigned filter = 8 * me.part + 2 * me.t, image = me.n + me.image();
    const float* values[2];
    const unsigned char* codes[2];
    unsigned half[2];
#pragma unroll
    for (unsigned row = 0; row < 2; ++row) {
      const unsigned y = 2 * me.row + r + row + T::ROW_SHIFT;
      const unsigned cell = (T::POOLED ? y / 2 : y) * T::COLUMNS + (T::POOLED ? 1 : 2) * me.column;
      const float* from = stage + filter * T::FILTER + cell * T::CELL;
      values[row] = from + image;
      codes[row] = reinterpret_cast<const unsigned char*>(from + T::IMAGES) + image;
      half[row] = y % 2;
    }
    const float* weight =
        stage + T::WEIGHTS + (me.c + me.g) * T::WEIGHT_CHANNEL + (T::R - 1 - r) * T::S * T::FILTERS + filter;

    Cell<T> cells[2];
    float left[2][T::M][4], right[2][T::M][4];
#pragma unroll
    for (unsigned row = 0; row < 2; ++row) {
      cells[row].load(values[row], codes[row], half[row]);
      cells[row].take(left[row], T::COLUMN_SHIFT);
    }
#pragma unroll
    for (unsigned s = 0; s < T::S; ++s) {
      const unsigned x = s + 1 + T::COLUMN_SHIFT;
#pragma unroll
      for (unsigned row = 0; row < 2; ++row) {
        const unsigned cell = (T::POOLED ? x / 2 : x) * T::CELL;
        if (!T::POOLED || x % 2 == 0) cells[row].load(values[row] + cell, codes[row] + 4 * cell, half[row]);
        cells[row].take(right[row], x % 2);
      }
      if (taps.has(s)) {
        Fragment<2, PRECISION> weights[T::J];
#pragma unroll
        for (unsigned j = 0; j < T::J; ++j) {
          const float* from = weight + 8 * j * T::WEIGHT_CHANNEL + (T::S - 1 - s) * T::FILTERS;
          const float2 two = *reinterpret_cast<const float2*>(from);
          weights[j].set(0, two.x);
          weights[j].set(1, two.y);
        }
#pragma unroll
        for (unsigned row = 0; row < 2; ++row) {
          add(2 * row, left[row], weights);
          add(2 * row + 1, right[row], weights);
        }
      }
#pragma unroll
      for (unsigned row = 0; row < 2; ++row)
#pragma unroll
        for (unsigned m = 0; m < T::M; ++m)
#pragma unroll
          for (unsigned i = 0; i < 4; ++i) left[row][m][i] = right[row][m][i];
    }
  }
};

// Where the sums of a lane go.
template <class T>
struct Output {
  float* dx;
  unsigned C, H, W, N;
  unsigned n, c, h, w;  // the lane's first image and channel, and its window

  // One position of channels c + 8j and c + 8j + 1.
  __device__ __forceinline__ void store(unsigned position, unsigned j, const float (&sums)[T::M][4]) const {
    const unsigned row = h + position / 2, column = w + position % 2;
#pragma unroll
    for (unsigned e = 0; e < 2; ++e) {
      const unsigned channel = c + 8 * j + e;
      if (channel >= C || row >= H || column >= W) continue;
      float* to = dx + ((channel * H + row) * W + column) * N + n;
      if constexpr (T::QUADS) {
        if (n < N) store4(to, make_float4(sums[0][e], sums[0][2 + e], sums[1][e], sums[1][2 + e]));
      } else {
#pragma unroll
        for (unsigned m = 0; m < T::M; ++m)
          if (n + 16 * m < N) *reinterpret_cast<float2*>(to + 16 * m) = make_float2(sums[m][e], sums[m][2 + e]);
      }
    }
  }
};

template <unsigned PRECISION, class T>
__device__ __forceinline__ void backward_data(const float* __restrict__ weight, const float* __restrict__ gradient,
                                              const void* __restrict__ saved, float* __restrict__ dx, unsigned C,
                                              unsigned H, unsigned W, unsigned N, unsigned K) {
  extern __shared__ __align__(16) float shared[];
  const unsigned images = (N + T::IMAGES - 1) / T::IMAGES;
  const unsigned rows = ((H + 1) / 2 + T::WINDOW_ROWS - 1) / T::WINDOW_ROWS;
  const unsigned columns = ((W + 1) / 2 + T::WINDOW_COLUMNS - 1) / T::WINDOW_COLUMNS;
  const unsigned n0 = blockIdx.x % images * T::IMAGES, c0 = blockIdx.x / images / columns / rows * T::CHANNELS;
  const unsigned i0 = blockIdx.x / images / columns % rows * T::WINDOW_ROWS;
  const unsigned j0 = blockIdx.x / images % columns * T::WINDOW_COLUMNS;
  const unsigned P = H - T::R + 1, Q = W - T::S + 1;
  const Gradient<T, PRECISION> dz = {gradient,
                                     saved,
                                     K,
                                     T::POOLED ? (P + 1) / 2 : P,
                                     T::POOLED ? (Q + 1) / 2 : Q,
                                     N,
                                     n0 + threadIdx.x % T::LINE * 4,
                                     T::POOLED ? i0 - T::R / 2 : 2 * i0 - (T::R - 1),
                                     T::POOLED ? j0 - T::S / 2 : 2 * j0 - (T::S - 1)};

  const Lane<T> me = Lane<T>::get();
  const unsigned h = 2 * (i0 + me.row), w = 2 * (j0 + me.column);
  const Taps taps_r = Taps::of(h, H, T::R), taps_s = Taps::of(w, W, T::S);
  Sums<T, PRECISION> sums;
  sums.clear();

  copy_weights<T>(shared, weight, C, K, c0, 0);
  commit_async();
#pragma unroll 1
  for (unsigned at = 4 * threadIdx.x; at < T::WEIGHTS; at += 4 * T::THREADS) {
    store4(shared + at, make_float4(0, 0, 0, 0));
    store4(shared + T::STAGE + at, make_float4(0, 0, 0, 0));
  }
  __syncthreads();
#pragma unroll 1
  for (unsigned at = threadIdx.x; at < T::PIECES; at += T::THREADS) dz.store(shared, dz.load(at, 0));

  float *stage = shared, *next = shared + T::STAGE;
#pragma unroll 1
  for (unsigned k0 = 0; k0 < K; k0 += T::FILTERS) {
    wait_async<0>();
    __syncthreads();  // this stage is there, and no thread reads what the next one overwrites
    const bool more = k0 + T::FILTERS < K;
    if (more) copy_weights<T>(next, weight, C, K, c0, k0 + T::FILTERS);
    commit_async();
#pragma unroll 1
    for (unsigned r = 0; r < T::R; ++r) {
      const unsigned first = r * T::MOVED * T::THREADS + threadIdx.x;
      typename Gradient<T, PRECISION>::Piece pieces[T::MOVED];
      if (more)
#pragma unroll
        for (unsigned i = 0; i < T::MOVED; ++i) pieces[i] = dz.load(first + i * T::THREADS, k0 + T::FILTERS);
      if (taps_r.has(r)) sums.add_row(stage, me, r, taps_s);
      if (more)
#pragma unroll
        for (unsigned i = 0; i < T::MOVED; ++i) dz.store(next, pieces[i]);
    }
    float* const done = stage;
    stage = next;
    next = done;
  }

  const Output<T> output = {dx, C, H, W, N, n0 + me.n + me.image(), c0 + me.c + 2 * me.t, h, w};
  if constexpr (T::PARTS == 1) {
#pragma unroll
    for (unsigned position = 0; position < 4; ++position)
#pragma unroll
      for (unsigned j = 0; j < T::J; ++j) {
        float all[T::M][4];
#pragma unroll
        for (unsigned m = 0; m < T::M; ++m)
#pragma unroll
          for (unsigned i = 0; i < 4; ++i) all[m][i] = sums.at[position][m][j][i];
        output.store(position, j, all);
      }
  } else {  // parts are added in their order, each part's threads taking some of the positions
    const unsigned thread = threadIdx.x % T::PART_THREADS;
    __syncthreads();  // before the stages are overwritten
#pragma unroll
    for (unsigned position = 0; position < 4; ++position)
#pragma unroll
      for (unsigned j = 0; j < T::J; ++j)
#pragma unroll
        for (unsigned m = 0; m < T::M; ++m) {
          const float (&sum)[4] = sums.at[position][m][j];
          store4(shared + 4 * ((((me.part * 4 + position) * T::J + j) * T::M + m) * T::PART_THREADS + thread),
                 make_float4(sum[0], sum[1], sum[2], sum[3]));
        }
    __syncthreads();
#pragma unroll 1
    for (unsigned product = me.part; product < 4 * T::J; product += T::PARTS) {
      float all[T::M][4] = {};
#pragma unroll
      for (unsigned part = 0; part < T::PARTS; ++part)
#pragma unroll
        for (unsigned m = 0; m < T::M; ++m) {
          const float4 sum = load4(shared + 4 * (((part * 4 * T::J + product) * T::M + m) * T::PART_THREADS + thread));
          all[m][0] += sum.x;
          all[m][1] += sum.y;
          all[m][2] += sum.z;
          all[m][3] += sum.w;
        }
      output.store(product / T::J, product % T::J, all);
    }
  }
}

extern "C" __global__ void __launch_bounds__(Tile<TILE>::THREADS, Tile<TILE>::BLOCKS<TF32>)
    conv2d_backward_data_mma_tf32(const float* __restrict__ weight, const float* __restrict__ gradient,
                                  const void* __restrict__ saved, float* __restrict__ dx, unsigned C, unsigned H,
                                  unsigned W, unsigned N, unsigned K) {
  backward_data<TF32, Tile<TILE>>(weight, gradient, saved, dx, C, H, W, N, K);
}

extern "C" __global__ void __launch_bounds__(Tile<TILE>::THREADS, Tile<TILE>::BLOCKS<FP32X3>)
    conv2d_backward_data_mma_fp32x3(const float* __restrict__ weight, const float* __restrict__ gradient,
                                    const void* __restrict__ saved, float* __restrict__ dx, unsigned C, unsigned H,
                                    unsigned W, unsigned N, unsigned K) {
  backward_data<FP32X3, Tile<TILE>>(weight, gradient, saved, dx, C, H, W, N, K);
}
