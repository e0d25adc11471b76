// dense_forward_mma: the product of a dense layer on tensor cores, for batches that fill them.
//
//   z[o, b] = Σ_i weight[i, o] · x[i, b] + bias[o]
//
// As in dense/forward.cu the sum is cut into parts of `part` terms, at most 4,096: a product kernel writes their sums, an
// activation kernel adds them in order. Of tf32 and fp32x3 that file has the activation kernels; of bf16 they are here,
// and write y as bfloat16, without a code, as bf16 is for prediction alone.
//
// Arrays     x (I, B); weight (I, O); bias (O,); partial (parts, B, O); y (O, B), by maxout (O/2, B). O and B multiples of
//            4. bf16: x, weight and y are bfloat16, O and B multiples of 8.
// Threads    a block has 256 o × 64 or 128 b of one part, see mma.cuh; grid (o, b, part). A weight is
//            read once for all the b of a block. Activation: a thread of each group four b of a row of y, see
//            parts.cuh; grid (row, b).
// NaN        passes; by fp32x3 an infinity may give NaN, as it is taken apart.
// Versions   tf32     operands rounded to tf32 where they are loaded, float32 sums
//            fp32x3   three products, of the rounded operands and of what rounding left: float32's error
//            bf16     bfloat16 arrays, transposed by ldmatrix as they are loaded

#include "../include/activation.cuh"
#include "mma.cuh"
#include "parts.cuh"

constexpr unsigned OUTPUTS = 256;  // of a block

template <unsigned PRECISION, unsigned IMAGES>
__device__ __forceinline__ void product(const typename Format<PRECISION>::Element* __restrict__ x,
                                        const typename Format<PRECISION>::Element* __restrict__ weight,
                                        float* __restrict__ partial, unsigned I, unsigned O, unsigned B,
                                        unsigned part) {
  using Element = typename Format<PRECISION>::Element;
  using Weights = Rows<PRECISION, OUTPUTS>;
  using Inputs = Columns<PRECISION, IMAGES, false>;
  constexpr unsigned STAGES = PRECISION == BF16 ? 3 : 4;
  extern __shared__ __align__(16) float shared[];
  Element* const weights = reinterpret_cast<Element*>(shared);
  Element* const inputs = weights + STAGES * Weights::SIZE;
  const unsigned o0 = blockIdx.x * OUTPUTS, b0 = blockIdx.y * IMAGES;
  const unsigned first = blockIdx.z * part, end = first + part < I ? first + part : I;

  Sums<PRECISION, Weights, Inputs, OUTPUTS, IMAGES> sums;
  const Element* const my_weights = weights + Weights::origin(sums.row());
  const Element* const my_inputs = inputs + Inputs::origin(sums.column());
  for_stages<Weights::DEPTH, STAGES>(
      first, end,
      [&](unsigned stage, unsigned i) {
        Weights::copy(weights + stage * Weights::SIZE, weight, O, i, end, o0, O);
        Inputs::copy(inputs + stage * Inputs::SIZE, x, B, i, end, b0, B);
      },
      [&](unsigned stage, unsigned) {
        sums.add(my_weights + stage * Weights::SIZE, my_inputs + stage * Inputs::SIZE);
      });
  sums.store(partial + blockIdx.z * B * O, o0, O, b0, B);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_forward_mma_tf32_64(const float* __restrict__ x, const float* __restrict__ weight,
                              float* __restrict__ partial, unsigned I, unsigned O, unsigned B, unsigned part) {
  product<TF32, 64>(x, weight, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_forward_mma_tf32_128(const float* __restrict__ x, const float* __restrict__ weight,
                               float* __restrict__ partial, unsigned I, unsigned O, unsigned B, unsigned part) {
  product<TF32, 128>(x, weight, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_forward_mma_fp32x3_64(const float* __restrict__ x, const float* __restrict__ weight,
                                float* __restrict__ partial, unsigned I, unsigned O, unsigned B, unsigned part) {
  product<FP32X3, 64>(x, weight, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_forward_mma_fp32x3_128(const float* __restrict__ x, const float* __restrict__ weight,
                                 float* __restrict__ partial, unsigned I, unsigned O, unsigned B, unsigned part) {
  product<FP32X3, 128>(x, weight, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_forward_mma_bf16_64(const unsigned short* __restrict__ x, const unsigned short* __restrict__ weight,
                              float* __restrict__ partial, unsigned I, unsigned O, unsigned B, unsigned part) {
  product<BF16, 64>(x, weight, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dense_forward_mma_bf16_128(const unsigned short* __restrict__ x, const unsigned short* __restrict__ weight,
                               float* __restrict__ partial, unsigned I, unsigned O, unsigned B, unsigned part) {
  product<BF16, 128>(x, weight, partial, I, O, B, part);
}

template <Activation ACTIVATION>
__device__ __forceinline__ void activate(const float* __restrict__ partial, const float* __restrict__ bias,
                                         unsigned short* __restrict__ y, unsigned O, unsigned B, unsigned parts) {
  constexpr unsigned PIECES = ACTIVATION == MAXOUT ? 2 : 1;
  const unsigned unit = blockIdx.x * blockDim.y + threadIdx.y, b = (blockIdx.y * blockDim.x + threadIdx.x) * 4;
  const unsigned o = unit * PIECES;

  float z[4][PIECES] = {};
  add_parts(partial, parts, B, O, o, b, z);
  if (threadIdx.z > 0 || unit >= O / PIECES || b >= B) return;
  unsigned values[4];
#pragma unroll
  for (unsigned k = 0; k < 4; ++k) {
    const float first = z[k][0] + bias[o];
    unsigned char code;
    if constexpr (ACTIVATION == MAXOUT)
      values[k] = to_bf16(larger_piece(first, z[k][1] + bias[o + 1], code));
    else
      values[k] = to_bf16(rectified(first));
  }
  *reinterpret_cast<uint2*>(y + unit * B + b) = make_uint2(values[0] | values[1] << 16, values[2] | values[3] << 16);
}

extern "C" __global__ void __launch_bounds__(PARTS_THREADS)
    dense_forward_mma_relu(const float* __restrict__ partial, const float* __restrict__ bias,
                           unsigned short* __restrict__ y, unsigned O, unsigned B, unsigned parts) {
  activate<RELU>(partial, bias, y, O, B, parts);
}

extern "C" __global__ void __launch_bounds__(PARTS_THREADS)
    dense_forward_mma_maxout(const float* __restrict__ partial, const float* __restrict__ bias,
                             unsigned short* __restrict__ y, unsigned O, unsigned B, unsigned parts) {
  activate<MAXOUT>(partial, bias, y, O, B, parts);
}
