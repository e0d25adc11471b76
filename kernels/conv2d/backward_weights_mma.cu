// conv2d_backward_weights_mma: the gradient of a convolution's weights, by tensor cores.
//
//   dweight[c, r, s, k] = Σ_{p,q,n} x[c, p + r, q + s, n] · dz[k, p, q, n]
//
// dz is the gradient before ReLU and pool, rebuilt on its way through shared memory, see gradient.cuh. Images are
// innermost in both operands, as mma.sync wants the index that is summed over: a product takes 16 filters × 8 images of
// dz and 8 images × 8 rows of x. A row is a channel, a tap row and one of STEP tap columns; it serves TAPS of them, STEP
// apart (TAPS · STEP = S): a warp that slides along q keeps the inputs that a later position needs in registers.
//
// The sum runs over stages of one output row p and 8·PLANES images; `stages` of them make a part. A block writes the sums
// of a part of its channels and filters; conv2d_backward_weights_sum adds the parts in order. Inside a block the warps
// share a stage's images (PLANES) and columns (SEGMENTS), and add up through shared memory, in order too.
//
// Arrays     x (C, H, W, N); gradient (K, P, Q, N), or by POOL (K, ⌈P/2⌉, ⌈Q/2⌉, N), with y or code of its shape;
//            partial (parts, C, R, S, K). N a multiple of 4.
// Threads    along the grid filters innermost, then channels, then parts; warps of a block: those of rows innermost,
//            then of filters, then of segments, then of planes.
// NaN        an infinity may give NaN by fp32x3: it meets rests of both signs.
// Versions   tf32     one product of operands rounded to tf32 where they come to shared memory
//            fp32x3   three products of what was rounded and what that left, see mma.cuh

#include "../include/async_copy.cuh"
#include "../include/mma.cuh"
#include "gradient.cuh"

#ifndef TILE  // template arguments; the binding gives those of a layer: here the published network's conv2, by fp32x3
#define TILE 5, 5, 16, 2, 5, 16, 1, 1, 10, 2, 1, 1
#endif

// Filters of R × S; Q columns of dz; what follows the sums; tap columns of a row of x; channels of a block; products of
// a warp along rows and filters; warps of a block along both; planes of 8 images and segments of columns, a warp each.
template <unsigned R_, unsigned S_, unsigned Q_, unsigned EPILOGUE_, unsigned TAPS_, unsigned CHANNELS_,
          unsigned ROW_TILES_, unsigned FILTER_TILES_, unsigned ROW_WARPS_, unsigned FILTER_WARPS_, unsigned PLANES_,
          unsigned SEGMENTS_>
struct Tile {
  static constexpr unsigned R = R_, S = S_, Q = Q_, EPILOGUE = EPILOGUE_, TAPS = TAPS_, CHANNELS = CHANNELS_;
  static constexpr unsigned ROW_TILES = ROW_TILES_, FILTER_TILES = FILTER_TILES_;
  static constexpr unsigned ROW_WARPS = ROW_WARPS_, FILTER_WARPS = FILTER_WARPS_;
  static constexpr unsigned PLANES = PLANES_, SEGMENTS = SEGMENTS_, SPLITS = PLANES * SEGMENTS;
  static constexpr unsigned THREADS = 32 * ROW_WARPS * FILTER_WARPS * SPLITS;
  static constexpr unsigned STEP = S / TAPS, ROWS = CHANNELS * R * STEP, FILTERS = 16 * FILTER_TILES * FILTER_WARPS;
  static constexpr unsigned W = Q + S - 1, LENGTH = Q / SEGMENTS, IMAGES = 8 * PLANES, FOURS = 2 * PLANES;
  static constexpr unsigned WINDOW = (TAPS - 1) * STEP + 1;  // columns of x that a position of a warp meets
  static constexpr unsigned COLUMNS = EPILOGUE == POOL ? (Q + 1) / 2 : Q;  // of the gradient
  static constexpr unsigned PRODUCTS = ROW_TILES * TAPS;                   // of a warp for 16 filters
  static_assert(TAPS * STEP == S && LENGTH * SEGMENTS == Q, "equal shares");
  static_assert(ROWS <= 8 * ROW_TILES * ROW_WARPS, "all rows have a warp");

  // Of x a ring of image rows, for those that a stage reads and those that the next one may. Lanes read 8 images of four
  // rows at once, from cells that are all different modulo 4: no bank conflicts.
  static constexpr unsigned CELL = 8, RING = 2 * R;
  static __device__ constexpr unsigned at_least(unsigned cells, unsigned modulo_4) {
    return cells + (4 + modulo_4 - cells % 4) % 4;
  }
  static constexpr bool CHANNELS_INNERMOST = CHANNELS % 8 == 0;  // of the rows; else tap columns, then tap rows
  static constexpr unsigned LINE = CHANNELS_INNERMOST ? W : at_least(W, STEP % 4), PLANE = RING * LINE;
  static constexpr unsigned CHANNEL = at_least(PLANES * PLANE, CHANNELS_INNERMOST ? 1 : R * STEP % 4);
  static constexpr unsigned INPUTS = CHANNELS * CHANNEL * CELL;  // floats

  // Of dz what a lane reads at once side by side: filters f and f + 8 of two images. Two pairs of filters are an odd
  // number of such cells apart: no bank conflicts.
  static constexpr unsigned DZ_CELL = 16, PAIRS = FILTERS / 2;
  static constexpr unsigned DZ_PLANE = Q | 1, DZ_PAIR = PLANES * DZ_PLANE | 1;
  static constexpr unsigned DZ = PAIRS * DZ_PAIR * DZ_CELL;

  // The gradient and what its epilogue keeps, as they are in memory: four images of two filters for each of UNITS threads.
  static constexpr unsigned UNITS = COLUMNS * PAIRS * FOURS, GRADIENT = UNITS * 8;
  static constexpr unsigned SAVED = EPILOGUE == POOL ? GRADIENT / 4 : EPILOGUE == RELU ? GRADIENT : 0;

  static constexpr unsigned SUMS_LINE = FILTERS + 4;  // of the sums that warps exchange
};

// What a row reads: element x[c, p + r, q + s] and those STEP columns on.
struct Row {
  unsigned c, r, s;
};

template <class T>
__device__ __forceinline__ Row row_at(unsigned row) {
  if (row >= T::ROWS) row = 0;  // it fills up a product, and nobody stores its sums
  if (T::CHANNELS_INNERMOST) return {row % T::CHANNELS, row / T::CHANNELS / T::STEP, row / T::CHANNELS % T::STEP};
  return {row / T::STEP / T::R, row / T::STEP % T::R, row % T::STEP};
}

__device__ __forceinline__ unsigned wrapped(unsigned line, unsigned ring) { return line < ring ? line : line - ring; }

// An operand in the order of a lane's fragment; by TF32 it is rounded already.
template <unsigned PRECISION, unsigned COUNT>
__device__ __forceinline__ Fragment<COUNT, PRECISION> fragment(const float (&values)[COUNT]) {
  Fragment<COUNT, PRECISION> result;
#pragma unroll
  for (unsigned i = 0; i < COUNT; ++i) {
    if constexpr (PRECISION == TF32)
      result.rounded[i] = __float_as_uint(values[i]);
    else
      result.set(i, values[i]);
  }
  return result;
}

// What divides `count`, is not too much for registers, and enough to have the tensor cores busy.
__device__ constexpr unsigned group_of(unsigned count) {
  unsigned group = 7;
  while (count % group) --group;
  return group;
}

// A warp's sums. Images 2t and 2t + 1 of a cell are numbers t and t + 4 of a product: any order will do for a sum.
template <class T, unsigned PRECISION>
struct Sums {
  static constexpr unsigned GROUP = group_of(T::PRODUCTS);  // of products that do not wait for each other
  float at[T::FILTER_TILES][T::PRODUCTS / GROUP][GROUP][4] = {};

  // Add a segment of columns. inputs: of a lane's row in each product, dz: of its filters in the first, both at the
  // segment's first column.
  __device__ __forceinline__ void add(const float* shared, const unsigned (&inputs)[T::ROW_TILES], unsigned dz) {
    constexpr unsigned RUN = T::LENGTH <= 8 ? T::LENGTH : T::WINDOW <= 8 ? 8 / T::WINDOW * T::WINDOW : T::WINDOW;
#pragma unroll
    for (unsigned column = 0; column + 1 < T::WINDOW; ++column) read(shared, inputs, column, column);
    unsigned begin = 0;
#pragma unroll 1
    for (; begin + RUN <= T::LENGTH; begin += RUN) add_positions<RUN>(shared, inputs, dz, begin);
    if constexpr (T::LENGTH % RUN > 0) add_positions<T::LENGTH % RUN>(shared, inputs, dz, begin);
  }

  __device__ __forceinline__ const float (&of(unsigned filters, unsigned product) const)[4] {
    return at[filters][product / GROUP][product % GROUP];
  }

 private:
  Fragment<2, PRECISION> window[T::ROW_TILES][T::WINDOW];

  __device__ __forceinline__ void read(const float* shared, const unsigned (&inputs)[T::ROW_TILES], unsigned column,
                                       unsigned place) {
#pragma unroll
    for (unsigned tile = 0; tile < T::ROW_TILES; ++tile) {
      const float2 x = *reinterpret_cast<const float2*>(shared + inputs[tile] + column * T::CELL);
      window[tile][place] = fragment<PRECISION, 2>({x.x, x.y});
    }
  }

  template <unsigned COUNT>
  __device__ __forceinline__ void add_positions(const float* shared, const unsigned (&inputs)[T::ROW_TILES],
                                                unsigned dz, unsigned begin) {
#pragma unroll
    for (unsigned q = 0; q < COUNT; ++q) {  // place q % WINDOW is the window's first column
      read(shared, inputs, begin + q + T::WINDOW - 1, (q + T::WINDOW - 1) % T::WINDOW);
#pragma unroll
      for (unsigned tile = 0; tile < T::FILTER_TILES; ++tile) {
        const float4 f = load4(shared + dz + (tile * 8 * T::DZ_PAIR + begin + q) * T::DZ_CELL);
        const Fragment<4, PRECISION> filters = fragment<PRECISION, 4>({f.x, f.y, f.z, f.w});
#pragma unroll
        for (unsigned group = 0; group < T::PRODUCTS / GROUP; ++group) {
          Fragment<2, PRECISION> taps[GROUP];
#pragma unroll
          for (unsigned i = 0; i < GROUP; ++i) {
            const unsigned product = group * GROUP + i, row = product / T::TAPS, tap = product % T::TAPS;
            taps[i] = window[row][(q + tap * T::STEP) % T::WINDOW];
          }
          multiply(at[tile][group], filters, taps);
        }
      }
    }
  }
};

template <class T, unsigned PRECISION>
__device__ __forceinline__ void backward_weights(const float* __restrict__ x, const float* __restrict__ gradient,
                                                 const void* __restrict__ saved, float* __restrict__ partial,
                                                 unsigned C, unsigned H, unsigned N, unsigned K, unsigned stages) {
  extern __shared__ __align__(16) float shared[];
  const unsigned P = H - T::R + 1, all = (N + T::IMAGES - 1) / T::IMAGES * P;
  const unsigned filter_blocks = (K + T::FILTERS - 1) / T::FILTERS,
                 channel_blocks = (C + T::CHANNELS - 1) / T::CHANNELS;
  const unsigned k0 = blockIdx.x % filter_blocks * T::FILTERS;
  const unsigned c0 = blockIdx.x / filter_blocks % channel_blocks * T::CHANNELS;
  const unsigned part = blockIdx.x / filter_blocks / channel_blocks;
  const unsigned first = part * stages, end = first + stages < all ? first + stages : all;

  // visit(to, from, inside) for each four images of x that this thread copies for stage i, whose first image row has
  // place `place` in the ring; of the last row alone, where the stage before had the others.
  auto for_inputs = [&](unsigned i, unsigned place, auto visit) {
    const unsigned p = i % P, n0 = i / P * T::IMAGES;
#pragma unroll 1
    for (unsigned r = i == first || p == 0 ? 0 : T::R - 1; r < T::R; ++r) {
      float* const to = shared + wrapped(place + r, T::RING) * T::LINE * T::CELL;
      const unsigned from = (c0 * H + p + r) * T::W * N + n0;
#pragma unroll 1
      for (unsigned at = threadIdx.x; at < T::CHANNELS * T::W * T::FOURS; at += T::THREADS) {
        const unsigned four = at % T::FOURS, w = at / T::FOURS % T::W, c = at / T::FOURS / T::W;
        visit(to + (c * T::CHANNEL + four / 2 * T::PLANE + w) * T::CELL + four % 2 * 4,
              from + (c * H * T::W + w) * N + 4 * four, c0 + c < C && n0 + 4 * four < N);
      }
    }
  };
  auto copy_inputs = [&](unsigned i, unsigned place) {
    for_inputs(i, place, [&](float* to, unsigned from, bool inside) {
      copy_async<16>(to, x + (inside ? from : 0), inside ? 16 : 0);
    });
  };
  auto round_inputs = [&](unsigned i, unsigned place) {  // once they are there
    if constexpr (PRECISION == TF32)
      for_inputs(i, place, [](float* to, unsigned, bool) { store4(to, rounded4(load4(to))); });
  };

  // The gradient of stage i and what its epilogue keeps, in units of four images of filters f and f + 8 of 16.
  float* const dz = shared + T::INPUTS;     // of two stages
  float* const gradients = dz + 2 * T::DZ;  // likewise, as all that follows
  float* const keeps = gradients + 2 * T::GRADIENT;
  auto filter_of = [](unsigned pair) { return pair / 8 * 16 + pair % 8; };
  auto copy_gradients = [&](unsigned i) {
    const unsigned p = i % P, n0 = i / P * T::IMAGES;
    const GradientOfSum all = {gradient, saved, T::EPILOGUE, P, T::Q, N};
#pragma unroll 1
    for (unsigned at = threadIdx.x; at < T::UNITS; at += T::THREADS) {
      const unsigned n = n0 + at % T::FOURS * 4, pair = at / T::FOURS % T::PAIRS, column = at / T::FOURS / T::PAIRS;
#pragma unroll
      for (unsigned half = 0; half < 2; ++half) {
        const unsigned k = k0 + filter_of(pair) + 8 * half, to = half * T::UNITS + at;
        const bool inside = k < K && n < N;
        const unsigned from = inside ? all.offset(k, p, T::EPILOGUE == POOL ? 2 * column : column) + n : 0;
        copy_async<16>(gradients + i % 2 * T::GRADIENT + 4 * to, gradient + from, inside ? 16 : 0);
        if constexpr (T::EPILOGUE == POOL)
          copy_async<4>(keeps + i % 2 * T::SAVED + to, static_cast<const unsigned char*>(saved) + from, inside ? 4 : 0);
        if constexpr (T::EPILOGUE == RELU)
          copy_async<16>(keeps + i % 2 * T::SAVED + 4 * to, static_cast<const float*>(saved) + from, inside ? 16 : 0);
      }
    }
  };

  // dz of stage i from that; a thread takes what it copied.
  auto rebuild = [&](unsigned i) {
    const unsigned p = i % P;
#pragma unroll 1
    for (unsigned at = threadIdx.x; at < T::UNITS; at += T::THREADS) {
      const unsigned four = at % T::FOURS, pair = at / T::FOURS % T::PAIRS, column = at / T::FOURS / T::PAIRS;
      float4 dy[2];
#pragma unroll
      for (unsigned half = 0; half < 2; ++half) {
        dy[half] = load4(gradients + i % 2 * T::GRADIENT + 4 * (half * T::UNITS + at));
        if constexpr (PRECISION == TF32) dy[half] = rounded4(dy[half]);
      }
#pragma unroll
      for (unsigned side = 0; side < (T::EPILOGUE == POOL ? 2 : 1); ++side) {
        const unsigned q = T::EPILOGUE == POOL ? 2 * column + side : column;
        if (q >= T::Q) break;
        float4 value[2];
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
          const float* const own = keeps + i % 2 * T::SAVED + (T::EPILOGUE == POOL ? 1 : 4) * (half * T::UNITS + at);
          value[half] = dy[half];
          if constexpr (T::EPILOGUE == POOL) {
            const unsigned code = *reinterpret_cast<const unsigned*>(own) >> GradientOfSum::corner(p, q);
            if (!(code & 1)) value[half].x = 0;
            if (!(code & 1 << 8)) value[half].y = 0;
            if (!(code & 1 << 16)) value[half].z = 0;
            if (!(code & 1 << 24)) value[half].w = 0;
          }
          if constexpr (T::EPILOGUE == RELU) {
            const float4 y = load4(own);
            if (y.x <= 0) value[half].x = 0;
            if (y.y <= 0) value[half].y = 0;
            if (y.z <= 0) value[half].z = 0;
            if (y.w <= 0) value[half].w = 0;
          }
        }
        const float4 one = make_float4(value[0].x, value[1].x, value[0].y, value[1].y);
        const float4 other = make_float4(value[0].z, value[1].z, value[0].w, value[1].w);
        const unsigned cell = pair * T::DZ_PAIR + four / 2 * T::DZ_PLANE + q;
        float* const to = dz + i % 2 * T::DZ + cell * T::DZ_CELL + four % 2 * 8;
        const bool turned = threadIdx.x / 4 % 2;  // so that 8 lanes store to 32 banks
        store4(to + (turned ? 4 : 0), turned ? other : one);
        store4(to + (turned ? 0 : 4), turned ? one : other);
      }
    }
  };

  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const unsigned row_warp = warp % T::ROW_WARPS, filter_warp = warp / T::ROW_WARPS % T::FILTER_WARPS;
  const unsigned split = warp / T::ROW_WARPS / T::FILTER_WARPS;
  const unsigned column = split % T::SEGMENTS * T::LENGTH, plane = split / T::SEGMENTS;
  const unsigned first_row = row_warp * T::ROW_TILES * 8, first_filter = filter_warp * T::FILTER_TILES * 16;
  const unsigned first_cell = (first_filter / 2 + lane / 4) * T::DZ_PAIR + plane * T::DZ_PLANE + column;
  const bool rebuilds_first = warp / 4 % 2;  // of two warps of a scheduler one rebuilds while the other multiplies

  Sums<T, PRECISION> sums;
  unsigned place = 0;  // of the stage's first image row
  if (first < end) {
    copy_inputs(first, place);
    copy_gradients(first);
    if (first + 1 < end) copy_gradients(first + 1);
    commit_async();
    wait_async<0>();
    rebuild(first);
  }
#pragma unroll 1
  for (unsigned i = first; i < end; ++i) {
    wait_async<0>();
    round_inputs(i, place);
    __syncthreads();  // this stage is there, and nobody reads the last one any more
    const unsigned next = wrapped(place + ((i + 1) % P ? 1 : T::R), T::RING);
    if (i + 1 < end) copy_inputs(i + 1, next);
    if (i + 2 < end) copy_gradients(i + 2);
    commit_async();

    if (rebuilds_first && i + 1 < end) rebuild(i + 1);
    unsigned inputs[T::ROW_TILES];
#pragma unroll
    for (unsigned tile = 0; tile < T::ROW_TILES; ++tile) {
      const Row row = row_at<T>(first_row + tile * 8 + lane / 4);
      const unsigned line = row.c * T::CHANNEL + plane * T::PLANE + wrapped(place + row.r, T::RING) * T::LINE;
      inputs[tile] = (line + column + row.s) * T::CELL + lane % 4 * 2;
    }
    sums.add(shared, inputs, T::INPUTS + i % 2 * T::DZ + first_cell * T::DZ_CELL + lane % 4 * 4);
    if (!rebuilds_first && i + 1 < end) rebuild(i + 1);
    place = next;
  }

  // The sums of all warps, to shared memory; then a thread adds those of one weight, in order.
  constexpr unsigned LINES = 8 * T::ROW_TILES * T::ROW_WARPS * T::TAPS;  // of a split
  __syncthreads();
#pragma unroll
  for (unsigned product = 0; product < T::PRODUCTS; ++product)
#pragma unroll
    for (unsigned filters = 0; filters < T::FILTER_TILES; ++filters)
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = first_row + product / T::TAPS * 8 + lane % 4 * 2 + i % 2, tap = product % T::TAPS;
        const unsigned filter = first_filter + filters * 16 + lane / 4 + i / 2 * 8;
        shared[(split * LINES + row * T::TAPS + tap) * T::SUMS_LINE + filter] = sums.of(filters, product)[i];
      }
  __syncthreads();
#pragma unroll 1
  for (unsigned at = threadIdx.x; at < T::ROWS * T::TAPS * T::FILTERS; at += T::THREADS) {
    const unsigned filter = at % T::FILTERS, line = at / T::FILTERS;
    const Row row = row_at<T>(line / T::TAPS);
    const unsigned c = c0 + row.c, s = row.s + line % T::TAPS * T::STEP, k = k0 + filter;
    if (c >= C || k >= K) continue;
    float sum = 0;
#pragma unroll
    for (unsigned other = 0; other < T::SPLITS; ++other) sum += shared[(other * LINES + line) * T::SUMS_LINE + filter];
    partial[(((part * C + c) * T::R + row.r) * T::S + s) * K + k] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(Tile<TILE>::THREADS)
    conv2d_backward_weights_mma_tf32(const float* __restrict__ x, const float* __restrict__ gradient,
                                     const void* __restrict__ saved, float* __restrict__ partial, unsigned C,
                                     unsigned H, unsigned N, unsigned K, unsigned stages) {
  backward_weights<Tile<TILE>, TF32>(x, gradient, saved, partial, C, H, N, K, stages);
}

extern "C" __global__ void __launch_bounds__(Tile<TILE>::THREADS)
    conv2d_backward_weights_mma_fp32x3(const float* __restrict__ x, const float* __restrict__ gradient,
                                       const void* __restrict__ saved, float* __restrict__ partial, unsigned C,
                                       unsigned H, unsigned N, unsigned K, unsigned stages) {
  backward_weights<Tile<TILE>, FP32X3>(x, gradient, saved, partial, C, H, N, K, stages);
}
