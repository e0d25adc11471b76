// nesterov: one step of Nesterov momentum, weight and velocity in place.
//
//   v ← μ·v − η·g ;  w ← w + μ·v − η·g      (η: rate, μ: momentum)
//   nothing once first_bad[0] ≥ 0: a step before this one, or this one, was not finite (see finite.cu)
//
// Arrays     weight w, velocity v, gradient g: one shape, contiguous, n elements; rate (1,); first_bad (1,) int64.
// Threads    one an element (naive, several) or four (vectorised), blocks of any size along x; several: the array is y.
// Versions   naive        4-byte loads and stores
//            vectorised   16-byte loads and stores, n a multiple of 4: fewer requests wait for the same memory
//            several      naive for six arrays in one launch: those of biases and small filters are over before the
//                         next could begin. What is not there has no elements.

#include "include/nesterov.cuh"

template <typename Values>
__device__ __forceinline__ void update_one(Values* __restrict__ weight, Values* __restrict__ velocity,
                                           const Values* __restrict__ gradient, unsigned n, const float* rate,
                                           float momentum, const long long* first_bad) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n || first_bad[0] >= 0) return;
  Values w = weight[i], v = velocity[i];
  update(w, v, gradient[i], rate[0], momentum);
  weight[i] = w;
  velocity[i] = v;
}

extern "C" __global__ void nesterov_naive(float* __restrict__ weight, float* __restrict__ velocity,
                                          const float* __restrict__ gradient, unsigned n,
                                          const float* __restrict__ rate, float momentum,
                                          const long long* __restrict__ first_bad) {
  update_one(weight, velocity, gradient, n, rate, momentum, first_bad);
}

extern "C" __global__ void nesterov_vectorised(float4* __restrict__ weight, float4* __restrict__ velocity,
                                               const float4* __restrict__ gradient, unsigned n,
                                               const float* __restrict__ rate, float momentum,
                                               const long long* __restrict__ first_bad) {
  update_one(weight, velocity, gradient, n / 4, rate, momentum, first_bad);
}

#define ARRAYS(a) \
  float* __restrict__ weight##a, float* __restrict__ velocity##a, const float* __restrict__ gradient##a, unsigned n##a

extern "C" __global__ void nesterov_several(ARRAYS(0), ARRAYS(1), ARRAYS(2), ARRAYS(3), ARRAYS(4), ARRAYS(5),
                                            const float* __restrict__ rate, float momentum,
                                            const long long* __restrict__ first_bad) {
  switch (blockIdx.y) {
    case 0: return update_one(weight0, velocity0, gradient0, n0, rate, momentum, first_bad);
    case 1: return update_one(weight1, velocity1, gradient1, n1, rate, momentum, first_bad);
    case 2: return update_one(weight2, velocity2, gradient2, n2, rate, momentum, first_bad);
    case 3: return update_one(weight3, velocity3, gradient3, n3, rate, momentum, first_bad);
    case 4: return update_one(weight4, velocity4, gradient4, n4, rate, momentum, first_bad);
    case 5: return update_one(weight5, velocity5, gradient5, n5, rate, momentum, first_bad);
  }
}
