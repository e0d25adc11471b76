// maxout: the larger of two pieces and its gradient, by themselves; the network's is part of its dense layers.
//
//   forward    y[j] = the larger of x[2j] and x[2j + 1]; code = mask of the pieces (bit 0, bit 1) that equal it
//   backward   dx[2j], dx[2j + 1] = the gradient of y[j] where their bit is set, else 0
//
// Arrays     x, dx (2U, B); y, its gradient and code (uint8) (U, B).
// Threads    one an element of y.
// NaN, ties  NaN in either piece becomes y, with code 0. Pieces that tie are both in the code.
// Versions   one each; both wait for memory alone.

#include "include/activation.cuh"

extern "C" __global__ void maxout_forward(const float* __restrict__ x, float* __restrict__ y,
                                          unsigned char* __restrict__ code, unsigned n, unsigned B) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float* pieces = x + i / B * 2 * B + i % B;
  y[i] = larger_piece(pieces[0], pieces[B], code[i]);
}

extern "C" __global__ void maxout_backward(const float* __restrict__ gradient, const unsigned char* __restrict__ code,
                                           float* __restrict__ dx, unsigned n, unsigned B) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float* pieces = dx + i / B * 2 * B + i % B;
  pieces[0] = to_piece(gradient[i], code[i], 0);
  pieces[B] = to_piece(gradient[i], code[i], 1);
}
