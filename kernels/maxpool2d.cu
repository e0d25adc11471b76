// maxpool2d: 2×2 max-pool with stride 2 and its gradient, by themselves; the network's pools are part of convolutions.
//
//   forward    y = the maximum of a window; code = mask of the positions (bit 2·row + column) that equal it and are > 0
//   backward   dx = the gradient of the window at each position of its code, 0 at the others
//
// Arrays     x, dx (C, H, W, N); y, its gradient and code (uint8) (C, P, Q, N); P = ⌈H/2⌉, Q = ⌈W/2⌉: a window over
//            the border counts.
// Threads    one a window and 1 (naive) or 4 (vectorised) images, N innermost.
// NaN, ties  NaN anywhere in a window becomes its maximum, with code 0. Positions that tie are all in the code.
// Versions   naive        4-byte loads, 1-byte codes
//            vectorised   16-byte loads and stores, and 4 codes at once, along N, a multiple of 4

struct Window {
  unsigned first;         // offset of its first position
  unsigned right, below;  // to the next column and row; 0 beyond the border, so that a position is read twice instead
  unsigned inside;        // mask of the positions within the border
};

// The window of thread `index` of C·P·Q·N, N counted in the units of the arrays' type.
__device__ __forceinline__ Window window(unsigned index, unsigned H, unsigned W, unsigned N) {
  const unsigned P = (H + 1) / 2, Q = (W + 1) / 2;
  const unsigned n = index % N, column = index / N % Q * 2, row = index / N / Q % P * 2, c = index / N / Q / P;
  const bool right = column + 1 < W, below = row + 1 < H;
  return {((c * H + row) * W + column) * N + n, right ? N : 0, below ? W * N : 0,
          1u | (right ? 2u : 0u) | (below ? 4u : 0u) | (right && below ? 8u : 0u)};
}

// The larger, or NaN if one is.
__device__ __forceinline__ float larger(float a, float b) { return a > b || a != a ? a : b; }

__device__ __forceinline__ void pool(float a, float b, float c, float d, unsigned inside, float& y,
                                     unsigned char& code) {
  y = larger(larger(a, b), larger(c, d));
  const unsigned equal = (a == y ? 1u : 0u) | (b == y ? 2u : 0u) | (c == y ? 4u : 0u) | (d == y ? 8u : 0u);
  code = y > 0 ? equal & inside : 0;
}

__device__ __forceinline__ void pool(float4 a, float4 b, float4 c, float4 d, unsigned inside, float4& y, uchar4& code) {
  pool(a.x, b.x, c.x, d.x, inside, y.x, code.x);
  pool(a.y, b.y, c.y, d.y, inside, y.y, code.y);
  pool(a.z, b.z, c.z, d.z, inside, y.z, code.z);
  pool(a.w, b.w, c.w, d.w, inside, y.w, code.w);
}

__device__ __forceinline__ float at_position(float gradient, unsigned char code, unsigned bit) {
  return code & bit ? gradient : 0.0f;
}

__device__ __forceinline__ float4 at_position(float4 gradient, uchar4 code, unsigned bit) {
  return make_float4(at_position(gradient.x, code.x, bit), at_position(gradient.y, code.y, bit),
                     at_position(gradient.z, code.z, bit), at_position(gradient.w, code.w, bit));
}

template <typename Values, typename Codes>
__device__ __forceinline__ void forward(const Values* x, Values* y, Codes* code, unsigned C, unsigned H, unsigned W,
                                        unsigned N) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= C * ((H + 1) / 2) * ((W + 1) / 2) * N) return;
  const Window at = window(index, H, W, N);
  const Values* row = x + at.first;
  pool(row[0], row[at.right], row[at.below], row[at.below + at.right], at.inside, y[index], code[index]);
}

template <typename Values, typename Codes>
__device__ __forceinline__ void backward(const Values* gradient, const Codes* code, Values* dx, unsigned C, unsigned H,
                                         unsigned W, unsigned N) {
  const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= C * ((H + 1) / 2) * ((W + 1) / 2) * N) return;
  const Window at = window(index, H, W, N);
  const Values value = gradient[index];
  const Codes mask = code[index];
  Values* row = dx + at.first;
  row[0] = at_position(value, mask, 1);
  if (at.inside & 2) row[at.right] = at_position(value, mask, 2);
  if (at.inside & 4) row[at.below] = at_position(value, mask, 4);
  if (at.inside & 8) row[at.below + at.right] = at_position(value, mask, 8);
}

extern "C" __global__ void maxpool2d_forward_naive(const float* __restrict__ x, float* __restrict__ y,
                                                   unsigned char* __restrict__ code, unsigned C, unsigned H, unsigned W,
                                                   unsigned N) {
  forward(x, y, code, C, H, W, N);
}

extern "C" __global__ void maxpool2d_forward_vectorised(const float4* __restrict__ x, float4* __restrict__ y,
                                                        uchar4* __restrict__ code, unsigned C, unsigned H, unsigned W,
                                                        unsigned N) {
  forward(x, y, code, C, H, W, N / 4);
}

extern "C" __global__ void maxpool2d_backward_naive(const float* __restrict__ gradient,
                                                    const unsigned char* __restrict__ code, float* __restrict__ dx,
                                                    unsigned C, unsigned H, unsigned W, unsigned N) {
  backward(gradient, code, dx, C, H, W, N);
}

extern "C" __global__ void maxpool2d_backward_vectorised(const float4* __restrict__ gradient,
                                                         const uchar4* __restrict__ code, float4* __restrict__ dx,
                                                         unsigned C, unsigned H, unsigned W, unsigned N) {
  backward(gradient, code, dx, C, H, W, N / 4);
}
