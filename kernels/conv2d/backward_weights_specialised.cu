// conv2d_backward_weights_specialised: the gradient of a convolution's weights, compiled for a layer's filter.
//
//   dweight[c, r, s, k] = Σ_{p,q,n} x[c, p + r, q + s, n] · dz[k, p, q, n]
//
// dz is the gradient before ReLU and pool, rebuilt while loading, see gradient.cuh. The sum runs over items: up to
// COLUMNS neighbouring columns q of one row p and four images. The items are cut into parts of `stages` · GROUPS. A block
// has one part of the sums of BLOCK_ROWS rows (c, r) with all their columns s, and of 32 filters; it takes GROUPS items at
// a time, each by a group of threads of its own, and adds what its groups have in order. conv2d_backward_weights_sum adds
// the parts.
//
// Arrays     x (C, H, W, N); gradient (K, P, Q, N), or by POOL (K, ⌈P/2⌉, ⌈Q/2⌉, N), with y or code of its shape;
//            partial (parts, C, R, S, K). N is a multiple of 4 and not 0.
// Threads    a group has ROW_LANES × 4; a thread has ROWS × S × 8 sums: of rows ROW_LANES apart, of filters four apart.
//            Along the grid filters innermost, then rows, then parts.
// NaN        every product is one of the formula: no column, image or item beyond the arrays is multiplied.
// Version    the only one. Four images of an operand are one load, and four additions to each sum. A thread slides along
//            q: the S + STEP − 1 inputs of a row serve S taps of STEP columns; every size of that is known to the
//            compiler. While a stage of items is multiplied, the inputs of the next one come by asynchronous copies, and
//            its dz by way of registers, STEP columns at a time.

#include "../include/async_copy.cuh"
#include "../include/float4.cuh"
#include "gradient.cuh"

#ifndef TILE  // template arguments; the binding gives those of a layer: here conv2 of the published network
#define TILE 5, 5, POOL, 2, 16, 6, 8, 2
#endif

constexpr unsigned FILTERS = 8, FILTER_LANES = 4, BLOCK_FILTERS = FILTERS * FILTER_LANES;

// STEP neighbouring columns of dz, as memory has them: those of a window of the pool are one. Whatever is made of them is
// made when they are stored: it would wait for memory.
template <unsigned EPILOGUE, unsigned STEP>
struct Columns {
  static constexpr unsigned LOADS = EPILOGUE == POOL ? 1 : STEP;
  float4 dy[LOADS], y[LOADS];
  unsigned code, corner;  // of the first column in its window

  __device__ __forceinline__ void store(float* to) const {
#pragma unroll
    for (unsigned i = 0; i < STEP; ++i) store4(to + 4 * i, value(i));
  }

  __device__ __forceinline__ float4 value(unsigned i) const {
    if constexpr (EPILOGUE == PLAIN) return dy[i];
    if constexpr (EPILOGUE == RELU)
      return make_float4(y[i].x <= 0 ? 0.0f : dy[i].x, y[i].y <= 0 ? 0.0f : dy[i].y, y[i].z <= 0 ? 0.0f : dy[i].z,
                         y[i].w <= 0 ? 0.0f : dy[i].w);
    const unsigned won = code >> corner >> i;
    return make_float4(won & 1 ? dy[0].x : 0.0f, won & 1 << 8 ? dy[0].y : 0.0f, won & 1 << 16 ? dy[0].z : 0.0f,
                       won & 1 << 24 ? dy[0].w : 0.0f);
  }
};

// Loads columns one after the other; `at` is where the next ones are, `corner` the bit of their first in its window.
template <unsigned EPILOGUE, unsigned STEP>
struct Reader {
  const float* gradient;
  const void* saved;
  unsigned N, at, corner;

  __device__ __forceinline__ Columns<EPILOGUE, STEP> load() {
    Columns<EPILOGUE, STEP> columns;
#pragma unroll
    for (unsigned i = 0; i < columns.LOADS; ++i) {
      columns.dy[i] = load4(gradient + at + i * N);
      if constexpr (EPILOGUE == RELU) columns.y[i] = load4(static_cast<const float*>(saved) + at + i * N);
    }
    if constexpr (EPILOGUE == POOL)
      columns.code = *reinterpret_cast<const unsigned*>(static_cast<const unsigned char*>(saved) + at);
    columns.corner = corner;
    if constexpr (EPILOGUE == POOL && STEP == 1) corner ^= 1;
    if (EPILOGUE != POOL || STEP == 2 || corner % 2 == 0) at += columns.LOADS * N;
    return columns;
  }
};

template <unsigned R, unsigned S, unsigned EPILOGUE, unsigned ROWS, unsigned ROW_LANES, unsigned GROUPS,
          unsigned COLUMNS, unsigned STEP>
struct Tile {
  static_assert(ROWS <= FILTER_LANES && ROW_LANES >= FILTERS, "there are threads for every row and filter of an item");
  static_assert(COLUMNS % STEP == 0 && (STEP == 1 || STEP == 2), "a step is a column, or those of a window");
  static constexpr unsigned BLOCK_ROWS = ROWS * ROW_LANES, LANES = ROW_LANES * FILTER_LANES;
  static constexpr unsigned THREADS = (GROUPS * LANES + 31) / 32 * 32;
  // Floats. Lines are an odd number of vectors of four, so that eight neighbouring lines fall into different banks, and
  // items one vector more than a multiple of eight.
  static constexpr unsigned INPUT_LINE = 4 * ((COLUMNS + S - 1) | 1), GRADIENT_LINE = 4 * (COLUMNS | 1);
  static constexpr unsigned INPUTS = BLOCK_ROWS * INPUT_LINE, GRADIENTS = BLOCK_FILTERS * GRADIENT_LINE;
  static constexpr unsigned ITEM = (INPUTS + GRADIENTS + 27) / 32 * 32 + 4, STAGE = GROUPS * ITEM;
  static constexpr unsigned SUMS = ROWS * S * FILTERS;  // of a thread; at the end, those of a group stand side by side
  static constexpr unsigned SUM_LINE = FILTER_LANES * (ROW_LANES | 1), END = GROUPS * SUMS * SUM_LINE;
  static constexpr unsigned SCRATCH = 2 * STAGE > END ? 2 * STAGE : END;

  float sums[ROWS][S][FILTERS];

  // One step of the thread's sums.
  __device__ __forceinline__ void multiply(const float* inputs, const float* gradients) {
    float4 window[ROWS][S + STEP - 1];
#pragma unroll
    for (unsigned u = 0; u < ROWS; ++u) {
#pragma unroll
      for (unsigned i = 0; i < S + STEP - 1; ++i) window[u][i] = load4(inputs + u * ROW_LANES * INPUT_LINE + 4 * i);
    }
#pragma unroll
    for (unsigned v = 0; v < FILTERS; ++v) {
#pragma unroll
      for (unsigned i = 0; i < STEP; ++i) {
        const float4 dz = load4(gradients + v * FILTER_LANES * GRADIENT_LINE + 4 * i);
#pragma unroll
        for (unsigned image = 0; image < 4; ++image) {
#pragma unroll
          for (unsigned u = 0; u < ROWS; ++u) {
#pragma unroll
            for (unsigned s = 0; s < S; ++s)
              sums[u][s][v] = fmaf(element(window[u][s + i], image), element(dz, image), sums[u][s][v]);
          }
        }
      }
    }
  }

  static __device__ __forceinline__ float element(const float4& vector, unsigned i) {
    return i == 0 ? vector.x : i == 1 ? vector.y : i == 2 ? vector.z : vector.w;
  }
};

// What all threads need to know of an item.
struct Item {
  unsigned columns;          // 0 beyond the part
  unsigned input, gradient;  // where it begins in a row of x, and in a filter of the gradient
  unsigned corner;           // of its first column in a window of the pool
};

template <unsigned R, unsigned S, unsigned EPILOGUE, unsigned ROWS, unsigned ROW_LANES, unsigned GROUPS,
          unsigned COLUMNS, unsigned STEP>
__device__ __forceinline__ void sum_part(Tile<R, S, EPILOGUE, ROWS, ROW_LANES, GROUPS, COLUMNS, STEP> tile,
                                         const float* __restrict__ x, const float* __restrict__ gradient,
                                         const void* __restrict__ saved, float* __restrict__ partial, unsigned C,
                                         unsigned H, unsigned W, unsigned N, unsigned K, unsigned stages) {
  using T = decltype(tile);
  extern __shared__ __align__(16) float shared[];  // two stages, later the sums of all threads; the items
  Item* items = reinterpret_cast<Item*>(shared + T::SCRATCH);
  const unsigned P = H - R + 1, Q = W - S + 1, rows = C * R;
  const unsigned vectors = N / 4, chunks = (Q + COLUMNS - 1) / COLUMNS, all = P * chunks * vectors;
  const unsigned filter_blocks = (K + BLOCK_FILTERS - 1) / BLOCK_FILTERS;
  const unsigned row_blocks = (rows + T::BLOCK_ROWS - 1) / T::BLOCK_ROWS;
  const unsigned k0 = blockIdx.x % filter_blocks * BLOCK_FILTERS;
  const unsigned row0 = blockIdx.x / filter_blocks % row_blocks * T::BLOCK_ROWS;
  const unsigned part = blockIdx.x / filter_blocks / row_blocks;

  for (unsigned i = threadIdx.x; i < stages * GROUPS; i += T::THREADS) {
    const unsigned index = part * stages * GROUPS + i, n = index % vectors * 4;
    const unsigned q = index / vectors % chunks * COLUMNS, p = index / vectors / chunks;
    const unsigned position = EPILOGUE == POOL ? p / 2 * ((Q + 1) / 2) + q / 2 : p * Q + q;
    items[i].columns = index >= all ? 0 : Q - q < COLUMNS ? Q - q : COLUMNS;
    items[i].input = (p * W + q) * N + n;
    items[i].gradient = position * N + n;
    items[i].corner = GradientOfSum::corner(p, q);
  }
  __syncthreads();

  // What this thread copies: lines of one item of every stage. Neighbouring threads have neighbouring images. Rows and
  // filters beyond the last are the last once more; nobody stores their sums.
  constexpr unsigned PHASES = T::THREADS / (GROUPS * T::BLOCK_ROWS);
  const unsigned place = threadIdx.x % GROUPS, line = threadIdx.x / GROUPS, phase = line / T::BLOCK_ROWS;
  const unsigned row = row0 + line % T::BLOCK_ROWS < rows ? row0 + line % T::BLOCK_ROWS : rows - 1;
  const unsigned filter = k0 + line < K ? k0 + line : K - 1;
  const unsigned input_row = ((row / R * H + row % R) * W + phase) * N;
  const unsigned plane = filter * (EPILOGUE == POOL ? (P + 1) / 2 * ((Q + 1) / 2) : P * Q) * N;
  float* input_line = shared + place * T::ITEM + line % T::BLOCK_ROWS * T::INPUT_LINE + 4 * phase;
  float* gradient_line = shared + place * T::ITEM + T::INPUTS + line * T::GRADIENT_LINE;

  auto copy_inputs = [&](unsigned buffer, const Item& item) {
    if (item.columns > 0 && phase < PHASES) {
      const float* from = x + (input_row + item.input);
      float* to = input_line + buffer * T::STAGE;
#pragma unroll
      for (unsigned i = 0; i < (COLUMNS + S - 2) / PHASES + 1; ++i, from += PHASES * N)
        if (phase + i * PHASES < item.columns + S - 1) copy_async<16>(to + 4 * i * PHASES, from);
    }
    commit_async();
  };

  // Lanes of a group: pairs of rows, then filters, then further pairs: a quarter of a warp reads few different vectors.
  const unsigned group = threadIdx.x / T::LANES, lane = threadIdx.x % T::LANES;
  constexpr unsigned PAIR = ROW_LANES % 2 ? 1 : 2;
  const unsigned row_lane = lane / (PAIR * FILTER_LANES) * PAIR + lane % PAIR;
  const unsigned filter_lane = lane / PAIR % FILTER_LANES;
  const float* input_lane = shared + group * T::ITEM + row_lane * T::INPUT_LINE;
  const float* gradient_lane = shared + group * T::ITEM + T::INPUTS + filter_lane * T::GRADIENT_LINE;

  Item item = items[place];
  copy_inputs(0, item);
  {
    Reader<EPILOGUE, STEP> reader = {gradient, saved, N, plane + item.gradient, item.corner};
    const unsigned columns = line < BLOCK_FILTERS ? item.columns : 0;
    Columns<EPILOGUE, STEP> dz[COLUMNS / STEP];
#pragma unroll
    for (unsigned i = 0; i < COLUMNS / STEP; ++i)
      if (i * STEP < columns) dz[i] = reader.load();
#pragma unroll
    for (unsigned i = 0; i < COLUMNS / STEP; ++i)
      if (i * STEP < columns) dz[i].store(gradient_line + i * STEP * 4);
  }
#pragma unroll 1
  for (unsigned stage = 0; stage < stages; ++stage) {
    wait_async<0>();
    __syncthreads();  // this stage is there, and nobody reads the other one any more
    const unsigned buffer = stage % 2, columns = group < GROUPS ? items[stage * GROUPS + group].columns : 0;
    item.columns = 0;
    if (stage + 1 < stages) item = items[(stage + 1) * GROUPS + place];
    copy_inputs(buffer ^ 1, item);
    Reader<EPILOGUE, STEP> reader = {gradient, saved, N, plane + item.gradient, item.corner};
    const unsigned next = line < BLOCK_FILTERS ? item.columns : 0;
    const float *inputs = input_lane + buffer * T::STAGE, *gradients = gradient_lane + buffer * T::STAGE;
    float* to = gradient_line + (buffer ^ 1) * T::STAGE;
#pragma unroll 1
    for (unsigned column = 0; column < COLUMNS; column += STEP) {
      Columns<EPILOGUE, STEP> dz;
      if (column < next) dz = reader.load();
      if (column < columns) tile.multiply(inputs, gradients);
      if (column < next) dz.store(to);
      inputs += 4 * STEP, gradients += 4 * STEP, to += 4 * STEP;
    }
  }

  __syncthreads();
  if (group < GROUPS) {
    float* to = shared + group * T::SUMS * T::SUM_LINE + row_lane * FILTER_LANES + filter_lane;
#pragma unroll
    for (unsigned i = 0; i < T::SUMS; ++i)
      to[i * T::SUM_LINE] = tile.sums[i / FILTERS / S][i / FILTERS % S][i % FILTERS];
  }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < T::BLOCK_ROWS * S * BLOCK_FILTERS; i += T::THREADS) {
    const unsigned k = i % BLOCK_FILTERS, s = i / BLOCK_FILTERS % S, to = i / BLOCK_FILTERS / S;
    const unsigned of = (to / ROW_LANES * S + s) * FILTERS + k / FILTER_LANES;  // the sums of a thread
    const float* from = shared + of * T::SUM_LINE + to % ROW_LANES * FILTER_LANES + k % FILTER_LANES;
    float sum = 0;
#pragma unroll
    for (unsigned g = 0; g < GROUPS; ++g) sum += from[g * T::SUMS * T::SUM_LINE];
    if (row0 + to < rows && k0 + k < K) partial[((part * rows + row0 + to) * S + s) * K + k0 + k] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(Tile<TILE>::THREADS, 1)
    conv2d_backward_weights_specialised(const float* __restrict__ x, const float* __restrict__ gradient,
                                        const void* __restrict__ saved, float* __restrict__ partial, unsigned C,
                                        unsigned H, unsigned W, unsigned N, unsigned K, unsigned stages) {
  sum_part(Tile<TILE>{}, x, gradient, saved, partial, C, H, W, N, K, stages);
}
