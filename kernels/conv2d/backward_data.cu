// conv2d_backward_data: the gradient of a convolution's input.
//
//   dx[c, h, w, n] = Σ_{k,r,s} weight[c, r, s, k] · dz[k, h − r, w − s, n], over the (r, s) whose position is in dz
//
// dz is the gradient before ReLU and pool, rebuilt while loading, see gradient.cuh.
//
// Arrays     weight (C, R, S, K); gradient (K, P, Q, N), or by POOL (K, ⌈P/2⌉, ⌈Q/2⌉, N), with y or code of its shape;
//            dx (C, H, W, N), H = P + R − 1, W = Q + S − 1.
// Threads    naive: one an element of dx, n innermost.
//            others: a block of 128 has 32 channels × 32 images × two 2×2 windows of dx side by side, see
//            tile.cuh; along the grid n innermost, then windows, then channels.
// NaN        a weight that is not finite makes NaN also where its tap meets the zeros around dz, but by naive.
// Versions   naive        every thread reads all of its gradients and weights from memory
//            tiled        the forward product over dz with zeros around it and turned filters: dz is rebuilt once a
//                         block, when its patch goes to shared memory; taps that meet zeros alone are left out
//            vectorised   loads of four images or filters: N, K and `filters` multiples of 4
//            long         sums of more than 4,096 terms: partial sums are added up

#include "../include/reduce.cuh"
#include "gradient.cuh"
#include "tile.cuh"

extern "C" __global__ void conv2d_backward_data_naive(const float* __restrict__ weight,
                                                      const float* __restrict__ gradient,
                                                      const void* __restrict__ saved, float* __restrict__ dx,
                                                      unsigned C, unsigned H, unsigned W, unsigned N, unsigned R,
                                                      unsigned S, unsigned K, unsigned epilogue) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= C * H * W * N) return;
  const unsigned n = index % N, w = index / N % W, h = index / N / W % H, c = index / N / W / H;
  const unsigned P = H - R + 1, Q = W - S + 1;
  const GradientOfSum dz = {gradient, saved, epilogue, P, Q, N};
  dx[index] = sum_in_runs(0, K * R * S, 1, [&](float run, unsigned tap) {
    const unsigned s = tap % S, r = tap / S % R, k = tap / S / R;
    if (h < r || h - r >= P || w < s || w - s >= Q) return run;
    return fmaf(weight[((c * R + r) * S + s) * K + k], dz.at(k, h - r, w - s, n), run);
  });
}

// A turned tap r meets rows h + r − (R − 1) and h + r − (R − 1) + 1 of dz in a window from row h on; taps before the first
// and from the end on meet nothing but the zeros around dz. Columns likewise.
__device__ __forceinline__ unsigned first_tap(unsigned h, unsigned R) { return h + 2 < R ? R - 2 - h : 0; }

__device__ __forceinline__ unsigned end_tap(unsigned h, unsigned H, unsigned R) {
  return h >= H ? 0 : h + R > H ? H - h : R;
}

template <bool VECTORISED, bool LONG>
__device__ __forceinline__ void backward_data_tile(const float* __restrict__ weight, const GradientOfSum& dz,
                                                   float* __restrict__ dx, unsigned C, unsigned H, unsigned W,
                                                   unsigned R, unsigned S, unsigned K, unsigned filters) {
  constexpr unsigned WIDTH = VECTORISED ? 4 : 1, LINE = TILE_N / WIDTH;
  extern __shared__ __align__(16) float stage[];
  const unsigned N = dz.N, images = (N + TILE_N - 1) / TILE_N, rows = (H + 1) / 2;
  const unsigned pairs = ((W + 1) / 2 + WINDOWS - 1) / WINDOWS;
  const unsigned h0 = blockIdx.x / images / pairs % rows * 2, w0 = blockIdx.x / images % pairs * WINDOWS * 2;
  const unsigned n0 = blockIdx.x % images * TILE_N, c0 = blockIdx.x / images / pairs / rows * TILE_CHANNELS;
  const TileThread me = tile_thread();
  const unsigned width = patch_width(S), height = patch_height(R), patch = height * width * TILE_N;
  const unsigned filter = R * S * TILE_CHANNELS;  // floats of a filter's weights
  float* const weights = stage + filters * patch;

  const unsigned w = w0 + 2 * me.window;
  const Taps taps = {first_tap(h0, R), end_tap(h0, H, R), first_tap(w, S), end_tap(w, W, S)};

  WindowSums sums, total;
  sums.clear();
  if (LONG) total.clear();
  unsigned terms = 0;
#pragma unroll 1
  for (unsigned k0 = 0; k0 < K; k0 += filters) {
    if (k0) __syncthreads();  // before this stage overwrites the last one
#pragma unroll 1
    for (unsigned row = threadIdx.x / LINE; row < filters * height * width; row += TILE_THREADS / LINE) {
      const unsigned lane = threadIdx.x % LINE * WIDTH, n = n0 + lane, k = k0 + row / width / height;
      const unsigned h = h0 + row / width % height, w = w0 + row % width;  // p + R − 1 and q + S − 1
      const bool inside = k < K && n < N && h >= R - 1 && h < H && w >= S - 1 && w < W;
      dz.copy<WIDTH>(stage + row * TILE_N + lane, inside, k, h - (R - 1), w - (S - 1), n);
    }
#pragma unroll 1
    for (unsigned at = threadIdx.x; at < filters / WIDTH * filter; at += TILE_THREADS) {
      const unsigned c = at % TILE_CHANNELS, k = at / TILE_CHANNELS % (filters / WIDTH) * WIDTH;
      const unsigned tap = at / TILE_CHANNELS / (filters / WIDTH);
      const bool inside = k0 + k < K && c0 + c < C;
      const float* from = weight + ((c0 + c) * R * S + tap) * K + k0 + k;
      float* to = weights + k * filter + (R * S - 1 - tap) * TILE_CHANNELS + c;
      if constexpr (VECTORISED) {
        const float4 four = inside ? load4(from) : make_float4(0, 0, 0, 0);
        to[0] = four.x;
        to[filter] = four.y;
        to[2 * filter] = four.z;
        to[3 * filter] = four.w;
      } else {
        to[0] = inside ? *from : 0.0f;
      }
    }
    __syncthreads();
#pragma unroll 1
    for (unsigned k = 0; k < filters; ++k)
      sums.accumulate(stage + k * patch + 2 * me.window * TILE_N + me.n, weights + k * filter + me.channel, S, taps);
    terms += filters * R * S;
    if (LONG && terms + filters * R * S > LONGEST_CHAIN) {
      total.add(sums);
      sums.clear();
      terms = 0;
    }
  }
  if (LONG) sums.add(total);

  const unsigned n = n0 + me.n, count = n < N ? N - n : 0;
#pragma unroll
  for (unsigned channel = 0; channel < 4; ++channel) {
    const unsigned c = c0 + me.channel + channel;
#pragma unroll
    for (unsigned position = 0; position < 4; ++position) {
      const unsigned h = h0 + position / 2, w = w0 + 2 * me.window + position % 2;
      if (c < C && h < H && w < W)
        store_up_to_4<VECTORISED>(dx + ((c * H + h) * W + w) * N + n, sums.at[channel][position], count);
    }
  }
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    conv2d_backward_data_tiled(const float* __restrict__ weight, const float* __restrict__ gradient,
                               const void* __restrict__ saved, float* __restrict__ dx, unsigned C, unsigned H,
                               unsigned W, unsigned N, unsigned R, unsigned S, unsigned K, unsigned epilogue,
                               unsigned filters) {
  const GradientOfSum dz = {gradient, saved, epilogue, H - R + 1, W - S + 1, N};
  backward_data_tile<false, false>(weight, dz, dx, C, H, W, R, S, K, filters);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    conv2d_backward_data_vectorised(const float* __restrict__ weight, const float* __restrict__ gradient,
                                    const void* __restrict__ saved, float* __restrict__ dx, unsigned C, unsigned H,
                                    unsigned W, unsigned N, unsigned R, unsigned S, unsigned K, unsigned epilogue,
                                    unsigned filters) {
  const GradientOfSum dz = {gradient, saved, epilogue, H - R + 1, W - S + 1, N};
  backward_data_tile<true, false>(weight, dz, dx, C, H, W, R, S, K, filters);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    conv2d_backward_data_long(const float* __restrict__ weight, const float* __restrict__ gradient,
                              const void* __restrict__ saved, float* __restrict__ dx, unsigned C, unsigned H,
                              unsigned W, unsigned N, unsigned R, unsigned S, unsigned K, unsigned epilogue,
                              unsigned filters) {
  const GradientOfSum dz = {gradient, saved, epilogue, H - R + 1, W - S + 1, N};
  backward_data_tile<false, true>(weight, dz, dx, C, H, W, R, S, K, filters);
}
