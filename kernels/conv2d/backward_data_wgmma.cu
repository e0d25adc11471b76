// conv2d_backward_data_wgmma: the gradient of x, as conv2d/backward_data.cu, by the tensor cores' warpgroup products
// (sm_90a).
//
//   dx[c, h, w, n] = Σ_{k,r,s} weight[c, r, s, k] · dz[k, h − r, w − s, n], dz as in gradient.cuh;
//   by `tf32` of weight and dz rounded to tf32, by `fp32x3` within float32's error
//
// Arrays     gradient and saved of y (K, P, Q, N) or (K, ⌈P/2⌉, ⌈Q/2⌉, N), dx (C, H, W, N). K is a multiple of 8, C of
//            OUTPUTS, N of 4, by POOL of 16; a sum has at most 4,096 terms. A code has no bit of a position beyond the
//            border.
//            packed: weight (C, R, S, K) as `pack` leaves it, see wgmma.cuh; depth K, outputs C, the taps turned
//            by half a circle.
// Threads    pack: one a packed number.
//            others: a block has WINDOW_ROWS × WINDOW_COLUMNS windows of 2×2 positions of dx × IMAGE_GROUPS · 16 images ×
//            OUTPUTS channels.
// NaN, ties  as in conv2d/backward_data.cu; by fp32x3 an infinity may give NaN, as it is taken apart.
// Versions   tf32     gradient and saved are copied as they are, by POOL a quarter of dz, and dz is rebuilt in registers
//                     at the tensor cores' door: each of its positions once for up to four sums
//            fp32x3   three products in place of one: of what was rounded, and twice of one with the other's rest; OUTPUTS is
//                     32, and a block has at most 8 warps

#ifndef TILE  // R, S, epilogue, OUTPUTS, WINDOW_ROWS, WINDOW_COLUMNS, IMAGE_GROUPS, STAGES; here conv2 of the published net
#define TILE 5, 5, 2, 32, 2, 4, 1, 2
#endif

#include "../include/async_copy.cuh"
#include "../include/padded.cuh"
#include "epilogue.cuh"
#include "wgmma.cuh"

struct T : WgmmaTile<TILE> {
  // A patch of dz begins R − 1 rows and S − 1 columns before its windows. By POOL it is saved by windows of two.
  static constexpr unsigned PACE = EPILOGUE == POOL ? 2 : 1, SKIP_ROWS = (R - 1) % PACE, SKIP_COLUMNS = (S - 1) % PACE;
  static constexpr unsigned HEIGHT = (2 * WINDOW_ROWS + R - 1 + SKIP_ROWS + PACE - 1) / PACE;
  static constexpr unsigned WIDTH = (2 * WINDOW_COLUMNS + S - 1 + SKIP_COLUMNS + PACE - 1) / PACE;
  static constexpr unsigned FILTER = HEIGHT * WIDTH * IMAGES + 8;  // so that 4 filters × 8 images are in 32 banks
  static constexpr unsigned GRADIENT = DEPTH * FILTER;
  static constexpr unsigned CODES = padded(HEIGHT * WIDTH * IMAGES, 16, 128);  // bytes of a filter: 4 in 16 banks
  static constexpr unsigned SAVED = EPILOGUE == POOL ? DEPTH * CODES / 4 : EPILOGUE == RELU ? GRADIENT : 0;
};

extern "C" __global__ void conv2d_backward_data_wgmma_pack(const float* __restrict__ weight, float* __restrict__ packed,
                                                           unsigned C, unsigned K, unsigned planes) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= planes * C * T::R * T::S * K) return;
  const PackedPlace place = packed_place<T>(index, planes, C);
  const unsigned turned = T::R * T::S - 1 - place.tap;
  packed[index] = packed_value(weight[(place.output * T::R * T::S + turned) * K + place.depth], place.plane);
}

// Starts the copies of a stage: gradient and saved of eight filters from k0 on, of a patch from row and column (may be
// negative) on, zeros where there is none; then their weights.
template <unsigned PLANES>
__device__ __forceinline__ void copy_stage(float* to, const float* gradient, const void* saved, const float* packed,
                                           unsigned rows, unsigned columns, unsigned N, unsigned k0, int row0,
                                           int column0, unsigned n0) {
  constexpr unsigned LINE = T::IMAGES / 4, POSITIONS = T::HEIGHT * T::WIDTH;  // a line: 16 bytes each
  auto copy = [&](float* patch, const float* from) {
#pragma unroll 1
    for (unsigned i = threadIdx.x; i < DEPTH * POSITIONS * LINE; i += T::THREADS) {
      const unsigned lane = 4 * (i % LINE), position = i / LINE % POSITIONS, filter = i / LINE / POSITIONS,
                     n = n0 + lane;
      const unsigned row = row0 + position / T::WIDTH, column = column0 + position % T::WIDTH;  // large if negative
      const bool inside = row < rows && column < columns && n < N;
      copy_async<16>(patch + filter * T::FILTER + position * T::IMAGES + lane,
                     inside ? from + (((k0 + filter) * rows + row) * columns + column) * N + n : from, inside ? 16 : 0);
    }
  };
  copy(to, gradient);
  if (T::EPILOGUE == RELU) copy(to + T::GRADIENT, static_cast<const float*>(saved));
  if (T::EPILOGUE == POOL) {
    unsigned char* codes = reinterpret_cast<unsigned char*>(to + T::GRADIENT);
    const unsigned char* code = static_cast<const unsigned char*>(saved);
#pragma unroll 1
    for (unsigned i = threadIdx.x; i < DEPTH * POSITIONS * T::IMAGE_GROUPS; i += T::THREADS) {
      const unsigned lane = 16 * (i % T::IMAGE_GROUPS), position = i / T::IMAGE_GROUPS % POSITIONS;
      const unsigned filter = i / T::IMAGE_GROUPS / POSITIONS, n = n0 + lane;
      const unsigned row = row0 + position / T::WIDTH, column = column0 + position % T::WIDTH;
      const bool inside = row < rows && column < columns && n < N;
      copy_async<16>(codes + filter * T::CODES + position * T::IMAGES + lane,
                     inside ? code + (((k0 + filter) * rows + row) * columns + column) * N + n : code, inside ? 16 : 0);
    }
  }
  to += T::GRADIENT + T::SAVED;
#pragma unroll 1
  for (unsigned i = 4 * threadIdx.x; i < PLANES * T::WEIGHTS; i += 4 * T::THREADS) copy_async<16>(to + i, packed + i);
}

// A lane's part of a patch in shared memory: its images of filters t and t + 4.
struct Patch {
  const float* gradient;
  const float* y;             // by RELU
  const unsigned char* code;  // by POOL

  // dz of a position, for both images.
  __device__ __forceinline__ float2 load(unsigned row, unsigned column, unsigned half) const {
    row += T::SKIP_ROWS;
    column += T::SKIP_COLUMNS;
    const unsigned at = (row / T::PACE * T::WIDTH + column / T::PACE) * T::IMAGES;
    float2 dz = load2(gradient + 4 * half * T::FILTER + at);
    if (T::EPILOGUE == POOL) {
      const uchar2 codes = *reinterpret_cast<const uchar2*>(code + 4 * half * T::CODES + at);
      const unsigned bit = 1u << (row % 2 * 2 + column % 2);
      dz = make_float2(codes.x & bit ? dz.x : 0.0f, codes.y & bit ? dz.y : 0.0f);
    }
    if (T::EPILOGUE == RELU) {
      const float2 of = load2(y + 4 * half * T::FILTER + at);
      dz = make_float2(of.x <= 0 ? 0.0f : dz.x, of.y <= 0 ? 0.0f : dz.y);
    }
    return dz;
  }
};

template <unsigned PRECISION>
__device__ __forceinline__ void backward_data(const float* __restrict__ packed, const float* __restrict__ gradient,
                                              const void* __restrict__ saved, float* __restrict__ dx, unsigned C,
                                              unsigned H, unsigned W, unsigned N, unsigned K) {
  constexpr unsigned PLANES = PRECISION == FP32X3 ? 2 : 1, STAGE = T::GRADIENT + T::SAVED + PLANES * T::WEIGHTS;
  extern __shared__ __align__(128) float stages[];
  const unsigned P = H - T::R + 1, Q = W - T::S + 1, rows = (P + T::PACE - 1) / T::PACE;
  const unsigned columns = (Q + T::PACE - 1) / T::PACE, parts = C / T::OUTPUTS, eights = K / DEPTH;
  const WgmmaThread<T> me((H + 1) / 2, (W + 1) / 2, N);
  const int row0 = (2 * int(me.i0) - int(T::R - 1 + T::SKIP_ROWS)) / int(T::PACE);
  const int column0 = (2 * int(me.j0) - int(T::S - 1 + T::SKIP_COLUMNS)) / int(T::PACE);
  const unsigned mine = (2 / T::PACE * (me.row * T::WIDTH + me.column)) * T::IMAGES + me.image;

  auto copy = [&](unsigned eight) {
    if (eight < eights)
      copy_stage<PLANES>(stages + eight % T::STAGES * STAGE, gradient, saved,
                         packed + (eight * parts + me.part) * PLANES * T::WEIGHTS, rows, columns, N, DEPTH * eight,
                         row0, column0, me.n0);
    commit_async();  // an empty group too, so that the count of groups tells the stage
  };
  WgmmaSums<T> sums;
  sums.clear();
#pragma unroll
  for (unsigned eight = 0; eight + 1 < T::STAGES; ++eight) copy(eight);
#pragma unroll 1
  for (unsigned eight = 0; eight < eights; ++eight) {
    copy(eight + T::STAGES - 1);
    wait_async<T::STAGES - 1>();
    fence_async();
    __syncthreads();
    const float* stage = stages + eight % T::STAGES * STAGE;
    const float* at = stage + me.t * T::FILTER + mine;
    const Patch patch = {at, at + T::GRADIENT,
                         reinterpret_cast<const unsigned char*>(stage + T::GRADIENT) + me.t * T::CODES + mine};
    auto load = [patch](unsigned row, unsigned column, Fragment<4, PRECISION>& a) {
#pragma unroll
      for (unsigned half = 0; half < 2; ++half) {
        const float2 images = patch.load(row, column, half);
        a.set(2 * half, images.x);
        a.set(2 * half + 1, images.y);
      }
    };
    sums.accumulate<PRECISION>(load, columns_at(stage + T::GRADIENT + T::SAVED));
    __syncthreads();  // before the next copy overwrites this stage
  }

  const unsigned n = me.n0 + me.image;
  if (n >= N) return;
#pragma unroll
  for (unsigned pair = 0; pair < T::OUTPUTS / 4; ++pair)
#pragma unroll
    for (unsigned position = 0; position < 4; ++position) {
      const unsigned h = 2 * (me.i0 + me.row) + position / 2, w = 2 * (me.j0 + me.column) + position % 2;
      if (h < H && w < W) store2(dx + ((me.output(pair) * H + h) * W + w) * N + n, sums.sum(position, pair));
    }
}

extern "C" __global__ void __launch_bounds__(T::THREADS, 1)
    conv2d_backward_data_wgmma_tf32(const float* __restrict__ packed, const float* __restrict__ gradient,
                                    const void* __restrict__ saved, float* __restrict__ dx, unsigned C, unsigned H,
                                    unsigned W, unsigned N, unsigned K) {
  backward_data<TF32>(packed, gradient, saved, dx, C, H, W, N, K);
}

extern "C" __global__ void __launch_bounds__(T::THREADS, 1)
    conv2d_backward_data_wgmma_fp32x3(const float* __restrict__ packed, const float* __restrict__ gradient,
                                      const void* __restrict__ saved, float* __restrict__ dx, unsigned C, unsigned H,
                                      unsigned W, unsigned N, unsigned K) {
  if constexpr (T::HAS_FP32X3)
    backward_data<FP32X3>(packed, gradient, saved, dx, C, H, W, N, K);
  else
    __trap();
}
