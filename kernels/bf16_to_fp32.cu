// bf16_to_fp32: bfloat16 as float32, exactly: what a product of few columns reads, after a network's products in bfloat16.
//
// Arrays     x (n,) bfloat16, as their bits; y (n,) float32.
// Threads    one an element.

extern "C" __global__ void bf16_to_fp32(const unsigned short* __restrict__ x, float* __restrict__ y, unsigned n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = __uint_as_float(static_cast<unsigned>(x[i]) << 16);
}
