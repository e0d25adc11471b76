// dense_backward_update: a dense layer's weights moved in the backward pass, their gradient never stored.
//
//   g[i, o] = Σ_b x[i, b] · dz[o, b],   dz = the gradient before the activation, rebuilt while it is loaded
//   v ← μ·v − η·g ;  w ← w + μ·v − η·g, both in place (η: rate, μ: momentum; nothing once first_bad[0] ≥ 0)
//   data: dx[i, b] = Σ_o w[i, o] · dz[o, b] too, w before it moves; B at most 16
//
// Weights and velocities are read once and written once: at 16 images they are what the backward pass waits for. The
// sums over o are cut into parts of `part` terms, as in dense/backward_data.cu, whose dense_backward_data_sum adds them.
//
// Arrays     x (I, B); gradient, saved: see GradientOfZ in include/activation.cuh; weight w, velocity v (I, O); rate
//            (1,); first_bad (1,) int64; data: partial (parts, B, I).
// Threads    naive: one an element of w; data: one a row, parts along y.
//            tiled, vectorised: a block has 32 i of one part of o, in tiles of 32 i × 128 o, a thread 4 i × 4 o of them;
//            a warp has four rows, so that it alone adds up their dx; grid (i, part).
// Versions   naive        every thread reads the whole of its rows of x and dz
//            tiled        16 columns of both in shared memory; weights and velocities of the next tile are copied
//                         meanwhile, by the thread that moves them, for which nobody waits at a barrier
//            vectorised   16-byte copies and stores: O a multiple of 4

#include "../include/activation.cuh"
#include "../include/async_copy.cuh"
#include "../include/float4.cuh"
#include "../include/nesterov.cuh"

constexpr unsigned INPUTS = 32, OUTPUTS = 128, COLUMNS = 16;  // extents of a tile: i, o, b
constexpr unsigned EACH = 4;                                  // i and o of a thread
constexpr unsigned THREADS = INPUTS / EACH * (OUTPUTS / EACH);
static_assert(OUTPUTS / EACH == 32, "a warp has all o of its rows, which warp_sums relies on");

// What moves the weights.
struct Motion {
  float* weight;
  float* velocity;
  const float* rate;
  float momentum;
  const long long* first_bad;
};

extern "C" __global__ void dense_backward_update_naive(const float* __restrict__ x, const float* __restrict__ gradient,
                                                       const void* __restrict__ saved, float* __restrict__ weight,
                                                       float* __restrict__ velocity, unsigned I, unsigned O, unsigned B,
                                                       unsigned activation, float scale, const float* __restrict__ rate,
                                                       float momentum, const long long* __restrict__ first_bad) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= I * O || first_bad[0] >= 0) return;
  const GradientOfZ dz = {gradient, saved, activation, B, scale};
  const unsigned o = index % O, i = index / O;
  float sum = 0;
  for (unsigned b = 0; b < B; ++b) sum = fmaf(x[i * B + b], dz.at(o, b), sum);
  update(weight[index], velocity[index], sum, rate[0], momentum);
}

extern "C" __global__ void dense_backward_update_data_naive(
    const float* __restrict__ x, const float* __restrict__ gradient, const void* __restrict__ saved,
    float* __restrict__ weight, float* __restrict__ velocity, float* __restrict__ partial, unsigned I, unsigned O,
    unsigned B, unsigned part, unsigned activation, float scale, const float* __restrict__ rate, float momentum,
    const long long* __restrict__ first_bad) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= I) return;
  const GradientOfZ dz = {gradient, saved, activation, B, scale};
  const unsigned first = blockIdx.y * part, end = first + part < O ? first + part : O;
  float sums[COLUMNS] = {};
  for (unsigned o = first; o < end; ++o) {
    float sum = 0;
#pragma unroll
    for (unsigned b = 0; b < COLUMNS; ++b) {
      if (b >= B) break;
      sum = fmaf(x[i * B + b], dz.at(o, b), sum);
      sums[b] = fmaf(weight[i * O + o], dz.at(o, b), sums[b]);
    }
    if (first_bad[0] < 0) update(weight[i * O + o], velocity[i * O + o], sum, rate[0], momentum);
  }
#pragma unroll
  for (unsigned b = 0; b < COLUMNS; ++b) {
    if (b < B) partial[(blockIdx.y * B + b) * I + i] = sums[b];
  }
}

// Sums over a warp of 64 numbers a lane, each in a fixed tree: lane l gets numbers 2·l and 2·l + 1, as its first two.
// Each step hands over half of the numbers, so that 62 shuffles do rather than 5 · 64.
template <unsigned HALF = 32>
__device__ __forceinline__ void warp_sums(float (&values)[64]) {
  const bool upper = threadIdx.x & HALF / 2;
#pragma unroll
  for (unsigned k = 0; k < HALF; ++k) {
    const float mine = upper ? values[HALF + k] : values[k], other = upper ? values[k] : values[HALF + k];
    values[k] = mine + __shfl_xor_sync(0xffffffffu, other, HALF / 2);
  }
  if constexpr (HALF > 2) warp_sums<HALF / 2>(values);
}

__device__ __forceinline__ void add_products(float& sum, float4 a, float4 b) {
  sum = fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

template <bool DATA, bool VECTORISED>
__device__ __forceinline__ void move_tiles(const float* __restrict__ x, const GradientOfZ& dz, const Motion& motion,
                                           float* __restrict__ partial, unsigned I, unsigned O, unsigned part) {
  __shared__ __align__(16) float inputs[COLUMNS][INPUTS + 4];
  __shared__ __align__(16) float gradients[COLUMNS][OUTPUTS + 4];
  extern __shared__ __align__(16) float stages[];  // two of weights, then velocities: [INPUTS][OUTPUTS] each
  constexpr unsigned TILE = INPUTS * OUTPUTS, AT_ONCE = THREADS / COLUMNS;
  const unsigned B = dz.B, i0 = blockIdx.x * INPUTS;
  const unsigned first = blockIdx.y * part, end = first + part < O ? first + part : O;
  const unsigned i = threadIdx.x / 32 * EACH, o = threadIdx.x % 32 * EACH;
  const unsigned b = threadIdx.x % COLUMNS, line = threadIdx.x / COLUMNS;  // of what it loads

  auto copy = [&](unsigned stage, unsigned o0) {  // beyond the arrays come zeros
    constexpr unsigned WIDTH = VECTORISED ? 4 : 1;
    if (o0 < end) {
#pragma unroll
      for (unsigned k = 0; k < EACH * EACH; k += WIDTH) {
        const unsigned row = i + k / EACH, column = o + k % EACH;
        const bool inside = i0 + row < I && o0 + column < end;
        const unsigned from = inside ? (i0 + row) * O + o0 + column : 0, bytes = inside ? WIDTH * 4 : 0;
        float* to = stages + stage * 2 * TILE + row * OUTPUTS + column;
        copy_async<WIDTH * 4>(to, motion.weight + from, bytes);
        copy_async<WIDTH * 4>(to + TILE, motion.velocity + from, bytes);
      }
    }
    commit_async();
  };
  auto load_inputs = [&](unsigned b0) {
#pragma unroll
    for (unsigned k = line; k < INPUTS; k += AT_ONCE) {
      inputs[b][k] = i0 + k < I && b0 + b < B ? x[(i0 + k) * B + b0 + b] : 0.0f;
    }
  };
  auto load_gradients = [&](unsigned o0, unsigned b0) {
    float loaded[OUTPUTS / AT_ONCE];
    dz.column<AT_ONCE>(o0 + line, b0 + b, b0 + b < B ? end : 0, loaded);
#pragma unroll
    for (unsigned k = 0; k < OUTPUTS / AT_ONCE; ++k) gradients[b][line + k * AT_ONCE] = loaded[k];
  };

  const float rate = motion.rate[0];
  const bool frozen = motion.first_bad[0] >= 0;
  float sums[COLUMNS * EACH] = {};  // of dx, i innermost
  copy(0, first);
  unsigned stage = 0;
#pragma unroll 1
  for (unsigned o0 = first; o0 < end; o0 += OUTPUTS) {
    __syncthreads();  // everybody has read the tiles before this one
    copy(stage ^ 1, o0 + OUTPUTS);
    const float *weights = stages + stage * 2 * TILE + i * OUTPUTS + o, *velocities = weights + TILE;
    float4 g[EACH] = {}, w[EACH];
    auto wait = [&] {
      wait_async<1>();  // for all but the next tile; this thread copied what it reads
#pragma unroll
      for (unsigned row = 0; row < EACH; ++row) w[row] = load4(weights + row * OUTPUTS);
    };
#pragma unroll 1
    for (unsigned b0 = 0; b0 < (DATA ? COLUMNS : B); b0 += COLUMNS) {
      if (b0 > 0) __syncthreads();  // everybody has read the columns before
      if (!DATA || o0 == first) load_inputs(b0);
      load_gradients(o0, b0);
      __syncthreads();
      if (DATA) wait();
#pragma unroll
      for (unsigned k = 0; k < COLUMNS; ++k) {
        const float4 inputs4 = load4(&inputs[k][i]), gradients4 = load4(&gradients[k][o]);
        multiply_add(g[0], inputs4.x, gradients4);
        multiply_add(g[1], inputs4.y, gradients4);
        multiply_add(g[2], inputs4.z, gradients4);
        multiply_add(g[3], inputs4.w, gradients4);
        if constexpr (DATA) {
#pragma unroll
          for (unsigned row = 0; row < EACH; ++row) add_products(sums[k * EACH + row], w[row], gradients4);
        }
      }
    }
    if (!DATA) wait();
#pragma unroll
    for (unsigned row = 0; row < EACH; ++row) {
      if (frozen || i0 + i + row >= I) break;
      float4 v = load4(velocities + row * OUTPUTS);
      update(w[row], v, g[row], rate, motion.momentum);
      const unsigned to = (i0 + i + row) * O + o0 + o, count = o0 + o < end ? end - o0 - o : 0;
      store_up_to_4<VECTORISED>(motion.weight + to, w[row], count);
      store_up_to_4<VECTORISED>(motion.velocity + to, v, count);
    }
    stage ^= 1;
  }
  if (!DATA) return;

  warp_sums(sums);
  const unsigned lane = threadIdx.x % 32, column = 2 * lane / EACH, row = i0 + i + 2 * lane % EACH;
#pragma unroll
  for (unsigned k = 0; k < 2; ++k) {
    if (column < B && row + k < I) partial[(blockIdx.y * B + column) * I + row + k] = sums[k];
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    dense_backward_update_tiled(const float* __restrict__ x, const float* __restrict__ gradient,
                                const void* __restrict__ saved, float* __restrict__ weight,
                                float* __restrict__ velocity, unsigned I, unsigned O, unsigned B, unsigned part,
                                unsigned activation, float scale, const float* __restrict__ rate, float momentum,
                                const long long* __restrict__ first_bad) {
  move_tiles<false, false>(x, {gradient, saved, activation, B, scale}, {weight, velocity, rate, momentum, first_bad},
                           nullptr, I, O, part);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    dense_backward_update_vectorised(const float* __restrict__ x, const float* __restrict__ gradient,
                                     const void* __restrict__ saved, float* __restrict__ weight,
                                     float* __restrict__ velocity, unsigned I, unsigned O, unsigned B, unsigned part,
                                     unsigned activation, float scale, const float* __restrict__ rate, float momentum,
                                     const long long* __restrict__ first_bad) {
  move_tiles<false, true>(x, {gradient, saved, activation, B, scale}, {weight, velocity, rate, momentum, first_bad},
                          nullptr, I, O, part);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    dense_backward_update_data_tiled(const float* __restrict__ x, const float* __restrict__ gradient,
                                     const void* __restrict__ saved, float* __restrict__ weight,
                                     float* __restrict__ velocity, float* __restrict__ partial, unsigned I, unsigned O,
                                     unsigned B, unsigned part, unsigned activation, float scale,
                                     const float* __restrict__ rate, float momentum,
                                     const long long* __restrict__ first_bad) {
  move_tiles<true, false>(x, {gradient, saved, activation, B, scale}, {weight, velocity, rate, momentum, first_bad},
                          partial, I, O, part);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    dense_backward_update_data_vectorised(const float* __restrict__ x, const float* __restrict__ gradient,
                                          const void* __restrict__ saved, float* __restrict__ weight,
                                          float* __restrict__ velocity, float* __restrict__ partial, unsigned I,
                                          unsigned O, unsigned B, unsigned part, unsigned activation, float scale,
                                          const float* __restrict__ rate, float momentum,
                                          const long long* __restrict__ first_bad) {
  move_tiles<true, true>(x, {gradient, saved, activation, B, scale}, {weight, velocity, rate, momentum, first_bad},
                         partial, I, O, part);
}
