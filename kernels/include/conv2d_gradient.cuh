// The gradient of a convolution's sum z (K, P, Q, N), before ReLU and pool, rebuilt where it is read from the gradient of
// what came after; it is never stored.
//
//   PLAIN    dz = dy
//   RELU     dz = y <= 0 ? 0 : dy                                                   kept: y (K, P, Q, N)
//   POOL     dz[k, p, q] = the code of the window says that (p, q) won ? dy : 0     kept: code (K, ⌈P/2⌉, ⌈Q/2⌉, N)
#pragma once

enum Form : unsigned { PLAIN, RELU, POOL };

struct GradientOfSum {
  const float* gradient;  // of y
  const void* kept;
  unsigned form, P, Q, N;

  // Where images of a position begin in gradient and kept.
  __device__ __forceinline__ unsigned offset(unsigned k, unsigned p, unsigned q) const {
    if (form == POOL) return ((k * ((P + 1) / 2) + p / 2) * ((Q + 1) / 2) + q / 2) * N;
    return ((k * P + p) * Q + q) * N;
  }

  // dz of a position, of which `at` = offset(k, p, q) + n.
  __device__ __forceinline__ float value(unsigned at, unsigned p, unsigned q) const {
    const float dy = gradient[at];
    if (form == POOL) return static_cast<const unsigned char*>(kept)[at] >> (p % 2 * 2 + q % 2) & 1 ? dy : 0.0f;
    return form == RELU && static_cast<const float*>(kept)[at] <= 0 ? 0.0f : dy;
  }

  __device__ __forceinline__ float at(unsigned k, unsigned p, unsigned q, unsigned n) const {
    return value(offset(k, p, q) + n, p, q);
  }
};
