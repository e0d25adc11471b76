// dense_backward_weights_mma: the gradient of a dense layer's weights on tensor cores, for batches that fill them.
//
//   dweight[i, o] = Σ_b x[i, b] · dz[o, b],   dz = the gradient before the activation, rebuilt on its way through shared
//                                             memory
//
// The sum over b is cut into parts of `part` terms, at most 4,096: one part, which is dweight, where the result has blocks
// enough for the device or B is at most 128; the sums of several are added in order by dense_backward_weights_sum.
//
// Arrays     x (I, B); gradient, saved: see GradientOfZ in include/activation.cuh; partial (parts, I, O). O and B
//            multiples of 4.
// Threads    a block has 128 i × 256 o of one part, see mma.cuh; grid (o, i, part). dz is
//            turned where it is rebuilt, so that o is innermost in it as in the result.
// NaN        passes; by fp32x3 an infinity may give NaN, as it is taken apart.
// Versions   tf32     x rounded to tf32 where it is loaded, dz where it is rebuilt; float32 sums
//            fp32x3   three products, of the rounded operands and of what rounding left: float32's error

#include "gradient.cuh"
#include "mma.cuh"

constexpr unsigned OUTPUTS = 256, INPUTS = 128;  // of a block
constexpr unsigned STAGES = 4;                   // of the inputs

// A thread's part of a stage of dz: four columns b of two rows o, of each 128. Lanes of the later columns take rows that
// are eight further, or fewer, than those of the earlier ones: what lanes store at once then lies in different banks.
template <class Gradients>
struct Pieces {
  static constexpr unsigned LANES = Gradients::DEPTH / 4, STEP = 2 * THREADS / LANES, EACH = OUTPUTS / STEP;
  GradientPair pairs[EACH];

  __device__ __forceinline__ void load(const GradientOfZ& dz, unsigned o, unsigned O, unsigned b, unsigned end) {
#pragma unroll
    for (unsigned i = 0; i < EACH; ++i) {
      const unsigned at = o + row() + i * STEP;
      pairs[i].load(dz, at, b + term(), at < O && b + term() < end);
    }
  }

  __device__ __forceinline__ void store(float* to, const GradientOfZ& dz) const {
#pragma unroll
    for (unsigned i = 0; i < EACH; ++i) {
      float4 even = pairs[i].row(dz, 0), odd = pairs[i].row(dz, 1);
      if (Gradients::IS_ROUNDED) even = rounded4(even), odd = rounded4(odd);
      float* const first = to + term() * Gradients::LINE + row() + i * STEP;
      store2(first, make_float2(even.x, odd.x));
      store2(first + Gradients::LINE, make_float2(even.y, odd.y));
      store2(first + 2 * Gradients::LINE, make_float2(even.z, odd.z));
      store2(first + 3 * Gradients::LINE, make_float2(even.w, odd.w));
    }
  }

 private:
  static __device__ __forceinline__ unsigned term() { return threadIdx.x % LANES * 4; }
  static __device__ __forceinline__ unsigned row() {
    return 2 * (threadIdx.x / LANES ^ (term() < Gradients::DEPTH / 2 ? 0 : 4));
  }
};

template <unsigned PRECISION>
__device__ __forceinline__ void product(const float* __restrict__ x, const GradientOfZ& dz, float* __restrict__ partial,
                                        unsigned I, unsigned O, unsigned B, unsigned part) {
  using Gradients = Rows<PRECISION, OUTPUTS, PRECISION == TF32>;
  using Inputs = Columns<PRECISION, INPUTS, true>;
  extern __shared__ __align__(16) float shared[];
  const unsigned o0 = blockIdx.x * OUTPUTS, i0 = blockIdx.y * INPUTS;
  const unsigned first = blockIdx.z * part, end = first + part < B ? first + part : B;

  Sums<PRECISION, Gradients, Inputs, OUTPUTS, INPUTS> sums;
  Pieces<Gradients> pieces;
  multiply_rebuilt<STAGES, Gradients, Inputs>(
      sums, shared, first, end, [&](float* to, unsigned b) { Inputs::copy(to, x, B, i0, I, b, end); },
      [&](unsigned b) { pieces.load(dz, o0, O, b, end); }, [&](float* to) { pieces.store(to, dz); });
  sums.store(partial + blockIdx.z * I * O, o0, O, i0, I);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_backward_weights_mma_tf32(const float* __restrict__ x, const float* __restrict__ gradient,
                                    const void* __restrict__ saved, float* __restrict__ partial, unsigned I, unsigned O,
                                    unsigned B, unsigned part, unsigned activation, float scale) {
  product<TF32>(x, {gradient, saved, activation, B, scale}, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_backward_weights_mma_fp32x3(const float* __restrict__ x, const float* __restrict__ gradient,
                                      const void* __restrict__ saved, float* __restrict__ partial, unsigned I,
                                      unsigned O, unsigned B, unsigned part, unsigned activation, float scale) {
  product<FP32X3>(x, {gradient, saved, activation, B, scale}, partial, I, O, B, part);
}
