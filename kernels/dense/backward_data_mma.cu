// dense_backward_data_mma: the gradient of a dense layer's input on tensor cores, for batches that fill them.
//
//   dx[i, b] = Σ_o weight[i, o] · dz[o, b],   dz = the gradient before the activation, rebuilt on its way through shared
//                                             memory
//
// The sum over o is cut into parts of `part` terms, at most 4,096; dense_backward_data_sum adds them in order.
//
// Arrays     weight (I, O); gradient, saved: see GradientOfZ in include/activation.cuh; partial (parts, B, I). O and B
//            multiples of 4.
// Threads    a block has 256 i × 64 or 128 b of one part, see mma.cuh; grid (i, b, part). A weight is
//            read once for all the b of a block, in runs of 64 bytes of a row.
// NaN        passes; by fp32x3 an infinity may give NaN, as it is taken apart.
// Versions   tf32     weights rounded to tf32 where they are loaded, dz where it is rebuilt; float32 sums
//            fp32x3   three products, of the rounded operands and of what rounding left: float32's error

#include "gradient.cuh"
#include "mma.cuh"

constexpr unsigned INPUTS = 256;  // of a block
constexpr unsigned STAGES = 4;    // of the weights

// A thread's part of a stage of dz: four columns b of two rows o.
template <class Gradients>
struct Piece {
  static constexpr unsigned LANES = Gradients::LENGTH / 4;
  GradientPair pair;

  __device__ __forceinline__ void load(const GradientOfZ& dz, unsigned o, unsigned end, unsigned b) {
    pair.load(dz, o + line(), b + column(), is_mine() && o + line() < end && b + column() < dz.B);
  }

  __device__ __forceinline__ void store(float* to, const GradientOfZ& dz) const {
    if (!is_mine()) return;
#pragma unroll
    for (unsigned piece = 0; piece < 2; ++piece) {
      const float4 row = pair.row(dz, piece);
      store4(to + (line() + piece) * Gradients::LINE + column(), Gradients::IS_ROUNDED ? rounded4(row) : row);
    }
  }

 private:
  static __device__ __forceinline__ unsigned line() { return threadIdx.x / LANES * 2; }
  static __device__ __forceinline__ unsigned column() { return threadIdx.x % LANES * 4; }
  static __device__ __forceinline__ bool is_mine() { return line() < Gradients::LINES; }
};

// To an array (B, I): columns of sums are side by side. ALIGNED: their number is a multiple of 4.
template <bool ALIGNED, class All, class Weights>
__device__ __forceinline__ void store(const All& sums, float* to, unsigned b0, unsigned B, unsigned i0, unsigned I) {
  const unsigned g = threadIdx.x % 32 / 4;
#pragma unroll
  for (unsigned m = 0; m < All::M; ++m)
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      const unsigned b = b0 + All::row() + 16 * m + 2 * g + half;
      if (b >= B) continue;
#pragma unroll
      for (unsigned j = 0; j < All::J; j += 2) {
        const float (&even)[4] = sums.at[m][j], (&odd)[4] = sums.at[m][j + 1];
        const unsigned i = i0 + All::column() + Weights::of(j, 0);
        store_up_to_4<ALIGNED>(to + b * I + i,
                               make_float4(even[2 * half], odd[2 * half], even[2 * half + 1], odd[2 * half + 1]),
                               i < I ? I - i : 0);
      }
    }
}

template <unsigned PRECISION, unsigned IMAGES>
__device__ __forceinline__ void product(const float* __restrict__ weight, const GradientOfZ& dz,
                                        float* __restrict__ partial, unsigned I, unsigned O, unsigned B,
                                        unsigned part) {
  using Gradients = Rows<PRECISION, IMAGES, PRECISION == TF32>;
  using Weights = Columns<PRECISION, INPUTS, true>;
  using All = Sums<PRECISION, Gradients, Weights, IMAGES, INPUTS>;
  extern __shared__ __align__(16) float shared[];
  const unsigned i0 = blockIdx.x * INPUTS, b0 = blockIdx.y * IMAGES;
  const unsigned first = blockIdx.z * part, end = first + part < O ? first + part : O;

  All sums;
  Piece<Gradients> piece;
  multiply_rebuilt<STAGES, Gradients, Weights>(
      sums, shared, first, end, [&](float* to, unsigned o) { Weights::copy(to, weight, O, i0, I, o, end); },
      [&](unsigned o) { piece.load(dz, o, end, b0); }, [&](float* to) { piece.store(to, dz); });

  float* const to = partial + blockIdx.z * B * I;
  if (I % 4 == 0)
    store<true, All, Weights>(sums, to, b0, B, i0, I);
  else
    store<false, All, Weights>(sums, to, b0, B, i0, I);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_backward_data_mma_tf32_64(const float* __restrict__ weight, const float* __restrict__ gradient,
                                    const void* __restrict__ saved, float* __restrict__ partial, unsigned I, unsigned O,
                                    unsigned B, unsigned part, unsigned activation, float scale) {
  product<TF32, 64>(weight, {gradient, saved, activation, B, scale}, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_backward_data_mma_tf32_128(const float* __restrict__ weight, const float* __restrict__ gradient,
                                     const void* __restrict__ saved, float* __restrict__ partial, unsigned I,
                                     unsigned O, unsigned B, unsigned part, unsigned activation, float scale) {
  product<TF32, 128>(weight, {gradient, saved, activation, B, scale}, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_backward_data_mma_fp32x3_64(const float* __restrict__ weight, const float* __restrict__ gradient,
                                      const void* __restrict__ saved, float* __restrict__ partial, unsigned I,
                                      unsigned O, unsigned B, unsigned part, unsigned activation, float scale) {
  product<FP32X3, 64>(weight, {gradient, saved, activation, B, scale}, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_backward_data_mma_fp32x3_128(const float* __restrict__ weight, const float* __restrict__ gradient,
                                       const void* __restrict__ saved, float* __restrict__ partial, unsigned I,
                                       unsigned O, unsigned B, unsigned part, unsigned activation, float scale) {
  product<FP32X3, 128>(weight, {gradient, saved, activation, B, scale}, partial, I, O, B, part);
}
