// dense_backward_weights: the gradient of a dense layer's weights.
//
//   dweight[i, o] = Σ_b x[i, b] · dz[o, b],   dz = the gradient before the activation, rebuilt while it is loaded
//
// The sum over b is cut into parts of `part` terms, so that no chain of additions is long: one part, which is dweight,
// where the result has blocks enough or B is at most 128; the sums of several are added in order by
// dense_backward_weights_sum.
//
// Arrays     x (I, B); gradient, saved: see GradientOfZ in include/activation.cuh; partial (parts, I, O);
//            dweight (I, O).
// Threads    naive: one an element of partial, o innermost, parts along y.
//            tiled, vectorised: a block has 64 i × 128 o of one part, a thread 16 i × 4 o of them; grid (o, i, part).
//            sum: one an element of dweight.
// Versions   naive        every thread reads the whole of its rows of x and dz
//            tiled        16 columns of both in shared memory, loaded while the 16 before are multiplied, and
//                         transposed, so that a thread finds its i and its o side by side
//            vectorised   16-byte stores, for which the kernel waits at B = 16: O a multiple of 4

#include "../include/activation.cuh"
#include "../include/async_copy.cuh"
#include "../include/float4.cuh"
#include "../include/reduce.cuh"

constexpr unsigned INPUTS = 64, OUTPUTS = 128, DEPTH = 16;  // extents of a tile: i, o, b
constexpr unsigned INPUTS_EACH = 16, OUTPUTS_EACH = 4;      // of a thread
constexpr unsigned THREADS = INPUTS / INPUTS_EACH * (OUTPUTS / OUTPUTS_EACH);

extern "C" __global__ void dense_backward_weights_naive(const float* __restrict__ x, const float* __restrict__ gradient,
                                                        const void* __restrict__ saved, float* __restrict__ partial,
                                                        unsigned I, unsigned O, unsigned B, unsigned part,
                                                        unsigned activation, float scale) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= I * O) return;
  const GradientOfZ dz = {gradient, saved, activation, B, scale};
  const unsigned o = index % O, i = index / O;
  const unsigned first = blockIdx.y * part, end = first + part < B ? first + part : B;
  float sum = 0;
  for (unsigned b = first; b < end; ++b) sum = fmaf(x[i * B + b], dz.at(o, b), sum);
  partial[blockIdx.y * I * O + index] = sum;
}

template <bool VECTORISED>
__device__ __forceinline__ void multiply_tiles(const float* __restrict__ x, const GradientOfZ& dz,
                                               float* __restrict__ partial, unsigned I, unsigned O, unsigned B,
                                               unsigned part) {
  __shared__ __align__(16) float inputs[2][DEPTH][INPUTS + 4];
  __shared__ __align__(16) float gradients[2][DEPTH][OUTPUTS + 4];
  constexpr unsigned LOADS = OUTPUTS * DEPTH / THREADS;
  const unsigned i0 = blockIdx.y * INPUTS, o0 = blockIdx.x * OUTPUTS;
  const unsigned first = blockIdx.z * part, end = first + part < B ? first + part : B;

  auto copy = [&](unsigned stage, unsigned b0) {  // beyond the arrays come zeros
#pragma unroll
    for (unsigned k = 0; k < INPUTS * DEPTH / THREADS; ++k) {
      const unsigned at = threadIdx.x + k * THREADS, row = at / DEPTH, column = at % DEPTH;
      const bool inside = i0 + row < I && b0 + column < end;
      copy_async<4>(&inputs[stage][column][row], inside ? x + (i0 + row) * B + b0 + column : x, inside ? 4 : 0);
    }
    commit_async();
  };
  float loaded[LOADS];
  auto load = [&](unsigned b0) {
    const unsigned o = o0 + threadIdx.x / DEPTH, b = b0 + threadIdx.x % DEPTH;
    dz.column<THREADS / DEPTH>(o, b, b < end ? O : 0, loaded);
  };
  auto put = [&](unsigned stage) {
#pragma unroll
    for (unsigned k = 0; k < LOADS; ++k) {
      gradients[stage][(threadIdx.x + k * THREADS) % DEPTH][(threadIdx.x + k * THREADS) / DEPTH] = loaded[k];
    }
  };

  const unsigned o = threadIdx.x % (OUTPUTS / OUTPUTS_EACH) * OUTPUTS_EACH;
  const unsigned i = threadIdx.x / (OUTPUTS / OUTPUTS_EACH) * INPUTS_EACH;
  float4 sum[INPUTS_EACH] = {};
  if (first < end) {
    copy(0, first);
    load(first);
    put(0);
  }
  unsigned stage = 0;
#pragma unroll 1
  for (unsigned b = first; b < end; b += DEPTH) {
    wait_async<0>();
    __syncthreads();  // this stage is there, and nobody reads the other one any more
    const bool more = b + DEPTH < end;
    if (more) {
      copy(stage ^ 1, b + DEPTH);
      load(b + DEPTH);
    }
#pragma unroll
    for (unsigned k = 0; k < DEPTH; ++k) {
      const float4 gradients4 = load4(&gradients[stage][k][o]);
#pragma unroll
      for (unsigned row = 0; row < INPUTS_EACH; row += 4) {
        const float4 inputs4 = load4(&inputs[stage][k][i + row]);
        multiply_add(sum[row], inputs4.x, gradients4);
        multiply_add(sum[row + 1], inputs4.y, gradients4);
        multiply_add(sum[row + 2], inputs4.z, gradients4);
        multiply_add(sum[row + 3], inputs4.w, gradients4);
      }
    }
    if (more) put(stage ^ 1);
    stage ^= 1;
  }

#pragma unroll
  for (unsigned row = 0; row < INPUTS_EACH; ++row) {
    if (i0 + i + row >= I) break;
    float* to = partial + (blockIdx.z * I + i0 + i + row) * O + o0 + o;
    store_up_to_4<VECTORISED>(to, sum[row], o0 + o < O ? O - o0 - o : 0);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    dense_backward_weights_tiled(const float* __restrict__ x, const float* __restrict__ gradient,
                                 const void* __restrict__ saved, float* __restrict__ partial, unsigned I, unsigned O,
                                 unsigned B, unsigned part, unsigned activation, float scale) {
  multiply_tiles<false>(x, {gradient, saved, activation, B, scale}, partial, I, O, B, part);
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    dense_backward_weights_vectorised(const float* __restrict__ x, const float* __restrict__ gradient,
                                      const void* __restrict__ saved, float* __restrict__ partial, unsigned I,
                                      unsigned O, unsigned B, unsigned part, unsigned activation, float scale) {
  multiply_tiles<true>(x, {gradient, saved, activation, B, scale}, partial, I, O, B, part);
}

extern "C" __global__ void dense_backward_weights_sum(const float* __restrict__ partial, float* __restrict__ dweight,
                                                      unsigned n, unsigned parts) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) dweight[i] = sum_of_parts(partial, parts, n, i);
}
