// The gradient of a convolution's sum z (K, P, Q, N), before ReLU and pool, rebuilt where it is read from the gradient of
// what came after; it is never stored.
//
//   PLAIN    dz = dy
//   RELU     dz = y <= 0 ? 0 : dy                                                   saved: y (K, P, Q, N)
//   POOL     dz[k, p, q] = the code of the window says that (p, q) won ? dy : 0     saved: code (K, ⌈P/2⌉, ⌈Q/2⌉, N)
#pragma once

#include "../include/float4.cuh"
#include "epilogue.cuh"

struct GradientOfSum {
  const float* gradient;  // of y
  const void* saved;
  unsigned epilogue, P, Q, N;

  // Where images of a position begin in gradient and saved.
  __device__ __forceinline__ unsigned offset(unsigned k, unsigned p, unsigned q) const {
    if (epilogue == POOL) return ((k * ((P + 1) / 2) + p / 2) * ((Q + 1) / 2) + q / 2) * N;
    return ((k * P + p) * Q + q) * N;
  }

  // dz of a position, of which `at` = offset(k, p, q) + n.
  __device__ __forceinline__ float value(unsigned at, unsigned p, unsigned q) const {
    const float dy = gradient[at];
    if (epilogue == POOL) return static_cast<const unsigned char*>(saved)[at] >> corner(p, q) & 1 ? dy : 0.0f;
    return epilogue == RELU && static_cast<const float*>(saved)[at] <= 0 ? 0.0f : dy;
  }

  // The same of four images side by side, in arrays whose N is a multiple of 4.
  __device__ __forceinline__ float4 value4(unsigned at, unsigned p, unsigned q) const {
    const float4 dy = load4(gradient + at);
    if (epilogue == POOL) {
      const uchar4 code = *reinterpret_cast<const uchar4*>(static_cast<const unsigned char*>(saved) + at);
      const unsigned bit = 1u << corner(p, q);
      return make_float4(code.x & bit ? dy.x : 0.0f, code.y & bit ? dy.y : 0.0f, code.z & bit ? dy.z : 0.0f,
                         code.w & bit ? dy.w : 0.0f);
    }
    if (epilogue == RELU) {
      const float4 y = load4(static_cast<const float*>(saved) + at);
      return make_float4(y.x <= 0 ? 0.0f : dy.x, y.y <= 0 ? 0.0f : dy.y, y.z <= 0 ? 0.0f : dy.z,
                         y.w <= 0 ? 0.0f : dy.w);
    }
    return dy;
  }

  __device__ __forceinline__ float at(unsigned k, unsigned p, unsigned q, unsigned n) const {
    return value(offset(k, p, q) + n, p, q);
  }

  // dz of WIDTH images from n on, 1 or 4, to `to`; zeros unless it is `inside` the array.
  template <unsigned WIDTH>
  __device__ __forceinline__ void copy(float* to, bool inside, unsigned k, unsigned p, unsigned q, unsigned n) const {
    static_assert(WIDTH == 1 || WIDTH == 4, "one image, or four side by side");
    if constexpr (WIDTH == 4)
      store4(to, inside ? value4(offset(k, p, q) + n, p, q) : make_float4(0, 0, 0, 0));
    else
      *to = inside ? at(k, p, q, n) : 0.0f;
  }

  static __device__ __forceinline__ unsigned corner(unsigned p, unsigned q) { return p % 2 * 2 + q % 2; }
};
