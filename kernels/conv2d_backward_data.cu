// conv2d_backward_data: the gradient of a convolution's input.
//
//   dx[c, h, w, n] = Σ_{k,r,s} weight[c, r, s, k] · dz[k, h − r, w − s, n], over the (r, s) whose position is in dz
//
// dz is the gradient before ReLU and pool, rebuilt while loading, see conv2d_gradient.cuh.
//
// Arrays     weight (C, R, S, K); gradient (K, P, Q, N), or by POOL (K, ⌈P/2⌉, ⌈Q/2⌉, N), with y or code of its shape;
//            dx (C, H, W, N), H = P + R − 1, W = Q + S − 1.
// Threads    naive: one an element of dx, n innermost.
//            others: a block of 128 has 32 channels × 32 images × two 2×2 windows of dx side by side, see
//            conv2d_tile.cuh; along the grid n innermost, then windows, then channels.
// Versions   naive   every thread reads all of its gradients and weights from memory
//            tiled   the forward product over dz with zeros around it and turned filters: dz is rebuilt once a block,
//                    when its patch goes to shared memory
//            long    sums of more than 4,096 terms: partial sums are added up

#include "include/conv2d_gradient.cuh"
#include "include/conv2d_tile.cuh"
#include "include/reduce.cuh"

extern "C" __global__ void conv2d_backward_data_naive(const float* __restrict__ weight,
                                                      const float* __restrict__ gradient, const void* __restrict__ kept,
                                                      float* __restrict__ dx, unsigned C, unsigned H, unsigned W,
                                                      unsigned N, unsigned R, unsigned S, unsigned K, unsigned form) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= C * H * W * N) return;
  const unsigned n = index % N, w = index / N % W, h = index / N / W % H, c = index / N / W / H;
  const unsigned P = H - R + 1, Q = W - S + 1;
  const GradientOfSum dz = {gradient, kept, form, P, Q, N};
  float sum = 0;
  for (unsigned k = 0; k < K; ++k) {  // of rows, then of filters, so that no chain is long
    float filter = 0;
    for (unsigned r = 0; r < R; ++r) {
      if (h < r || h - r >= P) continue;
      float row = 0;
      for (unsigned s = 0; s < S; ++s) {
        if (w < s || w - s >= Q) continue;
        row = fmaf(weight[((c * R + r) * S + s) * K + k], dz.at(k, h - r, w - s, n), row);
      }
      filter += row;
    }
    sum += filter;
  }
  dx[index] = sum;
}

template <bool LONG>
__device__ __forceinline__ void backward_data_tile(const float* __restrict__ weight, const GradientOfSum& dz,
                                                   float* __restrict__ dx, unsigned C, unsigned H, unsigned W,
                                                   unsigned R, unsigned S, unsigned K, unsigned filters) {
  extern __shared__ __align__(16) float stage[];
  const unsigned N = dz.N, images = (N + TILE_N - 1) / TILE_N, rows = (H + 1) / 2;
  const unsigned pairs = ((W + 1) / 2 + WINDOWS - 1) / WINDOWS;
  const unsigned h0 = blockIdx.x / images / pairs % rows * 2, w0 = blockIdx.x / images % pairs * WINDOWS * 2;
  const unsigned n0 = blockIdx.x % images * TILE_N, c0 = blockIdx.x / images / pairs / rows * TILE_CHANNELS;
  const TileThread me = tile_thread();
  const unsigned width = patch_width(S), height = patch_height(R), patch = height * width * TILE_N;
  float* const weights = stage + filters * patch;

  WindowSums sums, total;
  sums.clear();
  if (LONG) total.clear();
  unsigned terms = 0;
#pragma unroll 1
  for (unsigned k0 = 0; k0 < K; k0 += filters) {
    if (k0) __syncthreads();  // before this stage overwrites the last one
#pragma unroll 1
    for (unsigned row = threadIdx.x / TILE_N; row < filters * height * width; row += TILE_THREADS / TILE_N) {
      const unsigned lane = threadIdx.x % TILE_N, n = n0 + lane, k = k0 + row / width / height;
      const unsigned h = h0 + row / width % height, w = w0 + row % width;  // p + R − 1 and q + S − 1
      const bool inside = k < K && n < N && h >= R - 1 && h < H && w >= S - 1 && w < W;
      stage[row * TILE_N + lane] = inside ? dz.at(k, h - (R - 1), w - (S - 1), n) : 0.0f;
    }
#pragma unroll 1
    for (unsigned at = threadIdx.x; at < filters * R * S * TILE_CHANNELS; at += TILE_THREADS) {
      const unsigned k = at % filters, c = at / filters % TILE_CHANNELS, tap = at / filters / TILE_CHANNELS;
      const bool inside = k0 + k < K && c0 + c < C;
      weights[(k * R * S + R * S - 1 - tap) * TILE_CHANNELS + c] =
          inside ? weight[((c0 + c) * R * S + tap) * K + k0 + k] : 0.0f;
    }
    __syncthreads();
#pragma unroll 1
    for (unsigned k = 0; k < filters; ++k)
      sums.accumulate(stage + k * patch + 2 * me.window * TILE_N + me.n,
                      weights + k * R * S * TILE_CHANNELS + me.channel, R, S);
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
        store_up_to_4<false>(dx + ((c * H + h) * W + w) * N + n, sums.at[channel][position], count);
    }
  }
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    conv2d_backward_data_tiled(const float* __restrict__ weight, const float* __restrict__ gradient,
                               const void* __restrict__ kept, float* __restrict__ dx, unsigned C, unsigned H,
                               unsigned W, unsigned N, unsigned R, unsigned S, unsigned K, unsigned form,
                               unsigned filters) {
  const GradientOfSum dz = {gradient, kept, form, H - R + 1, W - S + 1, N};
  backward_data_tile<false>(weight, dz, dx, C, H, W, R, S, K, filters);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    conv2d_backward_data_long(const float* __restrict__ weight, const float* __restrict__ gradient,
                              const void* __restrict__ kept, float* __restrict__ dx, unsigned C, unsigned H, unsigned W,
                              unsigned N, unsigned R, unsigned S, unsigned K, unsigned form, unsigned filters) {
  const GradientOfSum dz = {gradient, kept, form, H - R + 1, W - S + 1, N};
  backward_data_tile<true>(weight, dz, dx, C, H, W, R, S, K, filters);
}
