// One step of Nesterov momentum, of one element or four: v ← μ·v − η·g ;  w ← w + μ·v − η·g   (η: rate, μ: momentum).
#pragma once

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
