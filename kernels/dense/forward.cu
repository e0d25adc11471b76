// dense_forward: the product of a dense layer, its bias and its activation.
//
//   z[o, b] = Σ_i weight[i, o] · x[i, b] + bias[o]
//   linear   y = z
//   relu     y = z < 0 ? 0 : z
//   maxout   y[j] = the larger of z[2j] and z[2j + 1]; code = mask of the pieces (bit 0, bit 1) that equal it
//   dropout  y is multiplied as by dropout.cu, and the code of what is dropped is 0: no gradient passes
//
// The sum over i is cut into parts of `part` terms: at B = 16 the kernel waits for the weights alone, which takes more
// blocks than O and B give, and no chain of additions may be long. A product kernel writes the sums of the parts, an
// activation kernel adds them in order.
//
// Arrays     x (I, B); weight (I, O); bias (O,); partial (parts, B, O), o innermost as in weight; y (O, B), or by
//            maxout y and code (uint8) (O/2, B).
// Threads    naive: one an element of partial, o innermost, parts along y.
//            tiled, vectorised: a block has 256 o × 16 b of one part, a thread 4 o × 8 b of them; grid (o, b, part).
//            A weight is read once for every 16 b.
//            activation kernels: a thread of each group four b of a row of y, which share a drawing of dropout where
//            4 divides B; blocks as in parts.cuh; grid (row, b).
// NaN, ties  NaN in either piece becomes y, with code 0. Pieces that tie are both in the code. Dropout passes NaN,
//            dropped or not; the backward pass of relu, which has y alone, takes a NaN for saved.
// Versions   naive        every thread reads the whole of its column of weights and of x
//            tiled        16 rows of both in shared memory, copied while the 16 before are multiplied
//            vectorised   16-byte copies of the weights: O a multiple of 4

#include "../include/activation.cuh"
#include "../include/async_copy.cuh"
#include "../include/float4.cuh"
#include "../include/philox.cuh"
#include "parts.cuh"

constexpr unsigned OUTPUTS = 256, COLUMNS = 16, DEPTH = 16;  // extents of a tile: o, b, i
constexpr unsigned OUTPUTS_EACH = 4, COLUMNS_EACH = 8;       // of a thread
constexpr unsigned THREADS = OUTPUTS / OUTPUTS_EACH * (COLUMNS / COLUMNS_EACH);

extern "C" __global__ void dense_forward_naive(const float* __restrict__ x, const float* __restrict__ weight,
                                               float* __restrict__ partial, unsigned I, unsigned O, unsigned B,
                                               unsigned part) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= B * O) return;
  const unsigned o = index % O, b = index / O;
  const unsigned first = blockIdx.y * part, end = first + part < I ? first + part : I;
  float sum = 0;
  for (unsigned i = first; i < end; ++i) sum = fmaf(weight[i * O + o], x[i * B + b], sum);
  partial[blockIdx.y * B * O + index] = sum;
}

template <bool VECTORISED>
__device__ __forceinline__ void multiply_tiles(const float* __restrict__ x, const float* __restrict__ weight,
                                               float* __restrict__ partial, unsigned I, unsigned O, unsigned B,
                                               unsigned part) {
  __shared__ __align__(16) float weights[2][DEPTH][OUTPUTS];
  __shared__ __align__(16) float columns[2][DEPTH][COLUMNS];
  const unsigned o0 = blockIdx.x * OUTPUTS, b0 = blockIdx.y * COLUMNS;
  const unsigned first = blockIdx.z * part, end = first + part < I ? first + part : I;

  constexpr unsigned WIDTH = VECTORISED ? 4 : 1, LANES = OUTPUTS / 4;
  const unsigned row = threadIdx.x / LANES, column = threadIdx.x % LANES * WIDTH;  // of the weights it copies
  const unsigned x_row = threadIdx.x / COLUMNS, x_column = threadIdx.x % COLUMNS;
  const float* weight_from = weight + (first + row) * O + o0 + column;  // runs on, stage by stage
  const float* x_from = x + (first + x_row) * B + b0 + x_column;

  auto copy = [&](unsigned stage, unsigned i0) {  // beyond the arrays come zeros
#pragma unroll
    for (unsigned k = 0; k < DEPTH; k += THREADS / LANES, weight_from += THREADS / LANES * O)
#pragma unroll
      for (unsigned next = 0; next < OUTPUTS; next += LANES * WIDTH) {
        const bool inside = i0 + row + k < end && o0 + column + next < O;
        copy_async<WIDTH * 4>(&weights[stage][row + k][column + next], inside ? weight_from + next : weight,
                              inside ? WIDTH * 4 : 0);
      }
#pragma unroll
    for (unsigned k = 0; k < DEPTH; k += THREADS / COLUMNS, x_from += THREADS / COLUMNS * B) {
      const bool inside = i0 + x_row + k < end && b0 + x_column < B;
      copy_async<4>(&columns[stage][x_row + k][x_column], inside ? x_from : x, inside ? 4 : 0);
    }
    commit_async();
  };

  const unsigned o = threadIdx.x % (OUTPUTS / OUTPUTS_EACH) * OUTPUTS_EACH;
  const unsigned b = threadIdx.x / (OUTPUTS / OUTPUTS_EACH) * COLUMNS_EACH;
  float4 sum[COLUMNS_EACH] = {};
  if (first < end) copy(0, first);
  unsigned stage = 0;
#pragma unroll 1
  for (unsigned i = first; i < end; i += DEPTH) {
    wait_async<0>();
    __syncthreads();  // this stage has arrived, and nobody reads the other one any more
    if (i + DEPTH < end) copy(stage ^ 1, i + DEPTH);
#pragma unroll
    for (unsigned k = 0; k < DEPTH; ++k) {
      const float4 w = load4(&weights[stage][k][o]);
      const float4 left = load4(&columns[stage][k][b]), right = load4(&columns[stage][k][b + 4]);
      multiply_add(sum[0], left.x, w);
      multiply_add(sum[1], left.y, w);
      multiply_add(sum[2], left.z, w);
      multiply_add(sum[3], left.w, w);
      multiply_add(sum[4], right.x, w);
      multiply_add(sum[5], right.y, w);
      multiply_add(sum[6], right.z, w);
      multiply_add(sum[7], right.w, w);
    }
    stage ^= 1;
  }

#pragma unroll
  for (unsigned k = 0; k < COLUMNS_EACH; ++k) {
    if (b0 + b + k >= B) break;
    float* to = partial + (blockIdx.z * B + b0 + b + k) * O + o0 + o;
    store_up_to_4<VECTORISED>(to, sum[k], o0 + o < O ? O - o0 - o : 0);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 5)
    dense_forward_tiled(const float* __restrict__ x, const float* __restrict__ weight, float* __restrict__ partial,
                        unsigned I, unsigned O, unsigned B, unsigned part) {
  multiply_tiles<false>(x, weight, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(THREADS, 5)
    dense_forward_vectorised(const float* __restrict__ x, const float* __restrict__ weight, float* __restrict__ partial,
                             unsigned I, unsigned O, unsigned B, unsigned part) {
  multiply_tiles<true>(x, weight, partial, I, O, B, part);
}

// What each of four consecutive elements of y is multiplied by.
struct Everything {
  __device__ __forceinline__ float4 from(unsigned) const { return make_float4(1, 1, 1, 1); }
};

struct Dropout {
  unsigned key_low, key_high, layer;
  const long long* step;
  Multiplier multiplier;

  __device__ __forceinline__ float4 from(unsigned i) const {
    const uint4 words = words_from(i);
    return make_float4(multiplier(words.x), multiplier(words.y), multiplier(words.z), multiplier(words.w));
  }

  __device__ __forceinline__ uint4 words_from(unsigned i) const {
    const uint4 a = draw(i / 4);
    if (i % 4 == 0) return a;
    const uint4 b = draw(i / 4 + 1);  // rows of y whose length is no multiple of 4 begin anywhere
    const uint4 c = i & 2 ? make_uint4(a.z, a.w, b.x, b.y) : a;
    return i & 1 ? make_uint4(c.y, c.z, c.w, i & 2 ? b.z : b.x) : c;
  }

  __device__ __forceinline__ uint4 draw(unsigned quad) const {
    return philox(counter(quad, layer, step[0]), make_uint2(key_low, key_high));
  }
};

template <Activation ACTIVATION, typename Mask>
__device__ __forceinline__ void activate(const float* __restrict__ partial, const float* __restrict__ bias,
                                         float* __restrict__ y, unsigned char* __restrict__ code, unsigned O,
                                         unsigned B, unsigned parts, const Mask& mask) {
  constexpr unsigned PIECES = ACTIVATION == MAXOUT ? 2 : 1;
  const unsigned unit = blockIdx.x * blockDim.y + threadIdx.y, b = (blockIdx.y * blockDim.x + threadIdx.x) * 4;
  const unsigned o = unit * PIECES, index = unit * B + b;

  float z[4][PIECES] = {};
  add_parts(partial, parts, B, O, o, b, z);
  if (threadIdx.z > 0 || unit >= O / PIECES || b >= B) return;
  const float4 multipliers4 = mask.from(index);
  const float multipliers[4] = {multipliers4.x, multipliers4.y, multipliers4.z, multipliers4.w};
  float values[4];
  unsigned char codes[4] = {};
#pragma unroll
  for (unsigned k = 0; k < 4; ++k) {
    const float first = z[k][0] + bias[o];
    if constexpr (ACTIVATION == MAXOUT) {
      values[k] = larger_piece(first, z[k][1] + bias[o + 1], codes[k]);
      if (multipliers[k] == 0) codes[k] = 0;  // no gradient
    } else {
      values[k] = ACTIVATION == RELU ? rectified(first) : first;
    }
    values[k] *= multipliers[k];
  }

  store_columns(y + index, make_float4(values[0], values[1], values[2], values[3]), b, B);
  if (ACTIVATION != MAXOUT) return;
  if (B % 4 == 0) {
    *reinterpret_cast<uchar4*>(code + index) = make_uchar4(codes[0], codes[1], codes[2], codes[3]);
    return;
  }
#pragma unroll
  for (unsigned k = 0; k < 4; ++k) {
    if (b + k < B) code[index + k] = codes[k];
  }
}

extern "C" __global__ void __launch_bounds__(PARTS_THREADS)
    dense_forward_linear(const float* __restrict__ partial, const float* __restrict__ bias, float* __restrict__ y,
                         unsigned O, unsigned B, unsigned parts) {
  activate<LINEAR>(partial, bias, y, nullptr, O, B, parts, Everything());
}

extern "C" __global__ void __launch_bounds__(PARTS_THREADS)
    dense_forward_relu(const float* __restrict__ partial, const float* __restrict__ bias, float* __restrict__ y,
                       unsigned O, unsigned B, unsigned parts) {
  activate<RELU>(partial, bias, y, nullptr, O, B, parts, Everything());
}

extern "C" __global__ void __launch_bounds__(PARTS_THREADS)
    dense_forward_relu_dropout(const float* __restrict__ partial, const float* __restrict__ bias, float* __restrict__ y,
                               unsigned O, unsigned B, unsigned parts, unsigned key_low, unsigned key_high,
                               unsigned layer, const long long* __restrict__ step, unsigned threshold, float scale) {
  activate<RELU>(partial, bias, y, nullptr, O, B, parts, Dropout{key_low, key_high, layer, step, {threshold, scale}});
}

extern "C" __global__ void __launch_bounds__(PARTS_THREADS)
    dense_forward_maxout(const float* __restrict__ partial, const float* __restrict__ bias, float* __restrict__ y,
                         unsigned char* __restrict__ code, unsigned O, unsigned B, unsigned parts) {
  activate<MAXOUT>(partial, bias, y, code, O, B, parts, Everything());
}

extern "C" __global__ void __launch_bounds__(PARTS_THREADS)
    dense_forward_maxout_dropout(const float* __restrict__ partial, const float* __restrict__ bias,
                                 float* __restrict__ y, unsigned char* __restrict__ code, unsigned O, unsigned B,
                                 unsigned parts, unsigned key_low, unsigned key_high, unsigned layer,
                                 const long long* __restrict__ step, unsigned threshold, float scale) {
  activate<MAXOUT>(partial, bias, y, code, O, B, parts, Dropout{key_low, key_high, layer, step, {threshold, scale}});
}
