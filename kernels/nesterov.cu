// nesterov: one step of Nesterov momentum, weight and velocity in place.
//
//   v ← μ·v − η·g ;  w ← w + μ·v − η·g      (η: rate, μ: momentum)
//   nothing once first_bad[0] ≥ 0: a step before this one, or this one, was not finite (see finite.cu)
//
// Arrays     weight w, velocity v, gradient g: one shape, contiguous, n elements; first_bad (1,) int64.
// Threads    one an element (naive) or four (vectorised), blocks of any size along x.
// Versions   naive        4-byte loads and stores
//            vectorised   16-byte loads and stores, n a multiple of 4: fewer requests wait for the same memory

__device__ __forceinline__ void update(float& weight, float& velocity, float gradient, float rate, float momentum) {
  const float step = rate * gradient;
  velocity = fmaf(momentum, velocity, -step);
  weight += fmaf(momentum, velocity, -step);
}

__device__ __forceinline__ void update(float4& weight, float4& velocity, float4 gradient, float rate, float momentum) {
  update(weight.x, velocity.x, gradient.x, rate, momentum);
  update(weight.y, velocity.y, gradient.y, rate, momentum);
  update(weight.z, velocity.z, gradient.z, rate, momentum);
  update(weight.w, velocity.w, gradient.w, rate, momentum);
}

template <typename Values>
__device__ __forceinline__ void update_one(Values* __restrict__ weight, Values* __restrict__ velocity,
                                           const Values* __restrict__ gradient, unsigned n, float rate, float momentum,
                                           const long long* first_bad) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n || first_bad[0] >= 0) return;
  Values w = weight[i], v = velocity[i];
  update(w, v, gradient[i], rate, momentum);
  weight[i] = w;
  velocity[i] = v;
}

extern "C" __global__ void nesterov_naive(float* __restrict__ weight, float* __restrict__ velocity,
                                          const float* __restrict__ gradient, unsigned n, float rate, float momentum,
                                          const long long* __restrict__ first_bad) {
  update_one(weight, velocity, gradient, n, rate, momentum, first_bad);
}

extern "C" __global__ void nesterov_vectorised(float4* __restrict__ weight, float4* __restrict__ velocity,
                                               const float4* __restrict__ gradient, unsigned n, float rate,
                                               float momentum, const long long* __restrict__ first_bad) {
  update_one(weight, velocity, gradient, n / 4, rate, momentum, first_bad);
}
