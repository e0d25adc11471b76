// The inner product of the dense layers on tensor cores: a block of 8 warps adds up ROWS × COLUMNS products.
//
//   Rows, Columns     an operand of a stage in shared memory: rows, or columns, × terms
//   Operand::copy     brings it there
//   Sums              a warp's sums; add() multiplies a stage's operands, of two products' depth
//   for_stages        calls copy and use; while a stage is used, those after it are on their way
//   multiply_rebuilt  for_stages with rows that come through registers, in two buffers by turns
//
// An operand lies in shared memory in one of two ways, lines of rows (a line a term) or lines of terms, as its array does:
// nothing is transposed. By TF32 and FP32X3 lane (g, t) = (lane / 4, lane % 4) takes terms 2t and 2t + 1 of each 8 for
// terms t and t + 4 of the product, and rows 2g and 2g + 1 of each 16 for its rows g and g + 8: a sum may be taken in any
// order, and so what lies side by side in memory does so in registers. Lines are 16 bytes longer than what they hold,
// which spreads what a warp reads at once over the banks.
#pragma once

#include "../include/async_copy.cuh"
#include "../include/float4.cuh"
#include "../include/mma.cuh"

constexpr unsigned THREADS = 256;  // of a block

template <unsigned PRECISION>
struct Format {
  using Element = float;
  static constexpr unsigned TERMS = 8;  // of a product
};

template <>
struct Format<BF16> {
  using Element = unsigned short;
  static constexpr unsigned TERMS = 16;
};

// EXTENT rows, or columns, × DEPTH terms.
template <unsigned PRECISION, unsigned EXTENT, bool LINES_OF_TERMS>
struct Operand {
  static_assert(PRECISION != BF16 || !LINES_OF_TERMS, "bf16 is loaded from lines of rows");
  using Element = typename Format<PRECISION>::Element;
  static constexpr unsigned TERMS = Format<PRECISION>::TERMS, DEPTH = 2 * TERMS;
  static constexpr unsigned AT_ONCE = 16 / sizeof(Element);  // copied by a thread
  static constexpr unsigned LINES = LINES_OF_TERMS ? EXTENT : DEPTH, LENGTH = LINES_OF_TERMS ? DEPTH : EXTENT;
  static constexpr unsigned LINE = LENGTH + AT_ONCE, SIZE = LINES * LINE;
  static constexpr unsigned NEXT_TERMS = LINES_OF_TERMS ? TERMS : TERMS * LINE;  // from product to product

  // From an array of lines that are `pitch` long: those from `line` on, before `lines`, and of each what comes from
  // `first` on, before `end`; zeros beyond.
  static __device__ __forceinline__ void copy(Element* to, const Element* from, unsigned pitch, unsigned line,
                                              unsigned lines, unsigned first, unsigned end) {
    constexpr unsigned LANES = LENGTH / AT_ONCE, STEP = THREADS / LANES;
    static_assert(LINES % STEP == 0, "all threads copy the same number of times");
    const unsigned at = threadIdx.x / LANES, mine = LANES == 4 ? apart(at) : at, column = threadIdx.x % LANES * AT_ONCE;
    const Element* const source = from + (line + mine) * pitch + first + column;
#pragma unroll
    for (unsigned i = 0; i < LINES; i += STEP) {
      const bool inside = line + mine + i < lines && first + column < end;
      copy_async<16>(to + (mine + i) * LINE + column, inside ? source + i * pitch : from, inside ? 16 : 0);
    }
  }

 private:
  // Another order of each eight lines: of 80 bytes, written by four lanes each, neighbours share banks; those four apart
  // do not.
  static __device__ __forceinline__ unsigned apart(unsigned line) { return line / 8 * 8 + line % 2 * 4 + line / 2 % 4; }
};

// The rows of a product, in lines of rows. IS_ROUNDED: to tf32, when they were stored.
template <unsigned PRECISION, unsigned EXTENT, bool IS_ROUNDED_ = false>
struct Rows : Operand<PRECISION, EXTENT, false> {
  static constexpr bool IS_ROUNDED = IS_ROUNDED_;
  using Base = Operand<PRECISION, EXTENT, false>;
  using Element = typename Base::Element;

  // Where a lane begins to read a warp's rows.
  static __device__ __forceinline__ unsigned origin(unsigned row) {
    const unsigned lane = threadIdx.x % 32;
    if (PRECISION == BF16) return (lane % 8 + lane / 16 * 8) * Base::LINE + row + lane / 8 % 2 * 8;
    return lane % 4 * 2 * Base::LINE + row + lane / 4 * 2;
  }

  // 16 rows.
  static __device__ __forceinline__ Fragment<4, PRECISION> load(const Element* from) {
    Fragment<4, PRECISION> rows;
    if constexpr (PRECISION == BF16) {
      load_matrices_transposed(rows.rounded, from);
    } else {
      const float2 first = load2(from), second = load2(from + Base::LINE);
      const float values[4] = {first.x, first.y, second.x, second.y};
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) {
        if constexpr (IS_ROUNDED)
          rows.rounded[i] = __float_as_uint(values[i]);
        else
          rows.set(i, values[i]);
      }
    }
    return rows;
  }
};

// The columns of a product, in lines of either kind.
template <unsigned PRECISION, unsigned EXTENT, bool LINES_OF_TERMS>
struct Columns : Operand<PRECISION, EXTENT, LINES_OF_TERMS> {
  using Base = Operand<PRECISION, EXTENT, LINES_OF_TERMS>;
  using Element = typename Base::Element;

  static __device__ __forceinline__ unsigned origin(unsigned column) {
    const unsigned lane = threadIdx.x % 32;
    if (PRECISION == BF16) return lane % 16 * Base::LINE + column + lane / 16 * 8;
    if (LINES_OF_TERMS) return (column + lane / 4 * 2) * Base::LINE + lane % 4 * 2;
    return lane % 4 * 2 * Base::LINE + column + lane / 4;
  }

  // Two products' columns, 16 in all.
  static __device__ __forceinline__ void load(const Element* from, Fragment<2, PRECISION>& even,
                                              Fragment<2, PRECISION>& odd) {
    if constexpr (PRECISION == BF16) {
      unsigned both[4];
      load_matrices_transposed(both, from);
      even.rounded[0] = both[0];
      even.rounded[1] = both[1];
      odd.rounded[0] = both[2];
      odd.rounded[1] = both[3];
    } else if constexpr (LINES_OF_TERMS) {
      const float2 first = load2(from), second = load2(from + Base::LINE);
      even.set(0, first.x);
      even.set(1, first.y);
      odd.set(0, second.x);
      odd.set(1, second.y);
    } else {  // one by one: of a longer load what one product needs would have to be put together
      even.set(0, from[0]);
      even.set(1, from[Base::LINE]);
      odd.set(0, from[8]);
      odd.set(1, from[Base::LINE + 8]);
    }
  }

  static constexpr unsigned NEXT_16 = LINES_OF_TERMS ? 16 * Base::LINE : 16;

  // Of the warp's columns the one whose sum is element i of product j.
  static __device__ __forceinline__ unsigned of(unsigned j, unsigned i) {
    const unsigned pair = threadIdx.x % 4 * 2 + i % 2;
    return LINES_OF_TERMS ? j / 2 * 16 + 2 * pair + j % 2 : 8 * j + pair;
  }
};

// A warp's sums, where Rows_ and Columns_ are the operands of a block.
template <unsigned PRECISION, class Rows_, class Columns_, unsigned ROWS, unsigned COLUMNS>
struct Sums {
  using Element = typename Format<PRECISION>::Element;
  static constexpr unsigned ROW_WARPS = ROWS > COLUMNS ? 4 : 2, COLUMN_WARPS = THREADS / 32 / ROW_WARPS;
  static constexpr unsigned M = ROWS / ROW_WARPS / 16, J = COLUMNS / COLUMN_WARPS / 8;
  float at[M][J][4] = {};  // products along rows and columns; elements

  // The warp's first row and column.
  static __device__ __forceinline__ unsigned row() { return threadIdx.x / 32 % ROW_WARPS * 16 * M; }
  static __device__ __forceinline__ unsigned column() { return threadIdx.x / 32 / ROW_WARPS * 8 * J; }

  // Both from the lane's origin on.
  __device__ __forceinline__ void add(const Element* rows, const Element* columns) {
    constexpr unsigned UNROLL = PRECISION == FP32X3 ? 1 : 2;
#pragma unroll UNROLL
    for (unsigned step = 0; step < 2; ++step, rows += Rows_::NEXT_TERMS, columns += Columns_::NEXT_TERMS) {
      Fragment<2, PRECISION> b[J];
#pragma unroll
      for (unsigned j = 0; j < J; j += 2) Columns_::load(columns + j / 2 * Columns_::NEXT_16, b[j], b[j + 1]);
#pragma unroll
      for (unsigned m = 0; m < M; ++m) multiply(at[m], Rows_::load(rows + 16 * m), b);
    }
  }

  // To an array (columns, rows) of an even number of rows, for a block that begins at r0 and c0.
  __device__ __forceinline__ void store(float* to, unsigned r0, unsigned rows, unsigned c0, unsigned columns) const {
    const unsigned g = threadIdx.x % 32 / 4;
#pragma unroll
    for (unsigned j = 0; j < J; ++j)
#pragma unroll
      for (unsigned i = 0; i < 2; ++i) {
        const unsigned c = c0 + column() + Columns_::of(j, i);
        if (c >= columns) continue;
#pragma unroll
        for (unsigned m = 0; m < M; ++m) {
          const unsigned r = r0 + row() + 16 * m + (PRECISION == BF16 ? g : 2 * g);
          float* const place = to + c * rows + r;
          if constexpr (PRECISION == BF16) {
            if (r < rows) place[0] = at[m][j][i];
            if (r + 8 < rows) place[8] = at[m][j][2 + i];
          } else {
            if (r < rows) store2(place, make_float2(at[m][j][i], at[m][j][2 + i]));
          }
        }
      }
  }
};

// The terms from `first` to `end`, DEPTH a stage: copy(stage, term) runs STAGES − 1 stages ahead of use(stage, term).
template <unsigned DEPTH, unsigned STAGES, class Copy, class Use>
__device__ __forceinline__ void for_stages(unsigned first, unsigned end, Copy copy, Use use) {
  unsigned ahead = first;
#pragma unroll
  for (unsigned stage = 0; stage + 1 < STAGES; ++stage, ahead += DEPTH) {
    if (ahead < end) copy(stage, ahead);
    commit_async();
  }
  unsigned stage = 0, free = STAGES - 1;
#pragma unroll 1
  for (unsigned term = first; term < end; term += DEPTH, ahead += DEPTH) {
    wait_async<STAGES - 2>();
    __syncthreads();  // this stage is there, and nobody reads the one before it any more
    if (ahead < end) copy(free, ahead);
    commit_async();
    use(stage, term);
    free = stage;
    stage = stage + 1 == STAGES ? 0 : stage + 1;
  }
}

// All products of the terms from `first` to `end`, of rows that are rebuilt and columns that copy_columns(to, term) brings
// to shared memory: there are STAGES of columns, and behind them two of rows, one used while the other is stored.
// load_rows(term) takes what the rows of a stage are rebuilt from, which store_rows(to) does once the products are under
// way.
template <unsigned STAGES, class Rows_, class Columns_, class All, class CopyColumns, class LoadRows, class StoreRows>
__device__ __forceinline__ void multiply_rebuilt(All& sums, float* shared, unsigned first, unsigned end,
                                                 CopyColumns copy_columns, LoadRows load_rows, StoreRows store_rows) {
  constexpr unsigned DEPTH = Columns_::DEPTH;
  float *rows = shared + STAGES * Columns_::SIZE, *next = rows + Rows_::SIZE;
  const unsigned my_rows = Rows_::origin(sums.row());
  const float* const my_columns = shared + Columns_::origin(sums.column());
  load_rows(first);
  store_rows(rows);
  for_stages<DEPTH, STAGES>(
      first, end, [&](unsigned stage, unsigned term) { copy_columns(shared + stage * Columns_::SIZE, term); },
      [&](unsigned stage, unsigned term) {
        load_rows(term + DEPTH);
        sums.add(rows + my_rows, my_columns + stage * Columns_::SIZE);
        if (term + DEPTH < end) store_rows(next);  // a branch, before which nothing is computed of what is not there
        float* const done = rows;
        rows = next;
        next = done;
      });
}
