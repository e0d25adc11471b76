// relu: the rectifier and its gradient, by themselves; in the network both are parts of convolutions and dense layers.
//
//   forward    y = x < 0 ? 0 : x
//   backward   dx = y <= 0 ? 0 : dy
//
// Arrays     any shape, contiguous, float32, n elements.
// Threads    one an element, blocks of any size along x.
// NaN        passes through both: comparisons with NaN are false.
// Versions   one each; both wait for memory alone.

extern "C" __global__ void relu_forward(const float* __restrict__ x, float* __restrict__ y, unsigned n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] < 0 ? 0.0f : x[i];
}

extern "C" __global__ void relu_backward(const float* __restrict__ dy, const float* __restrict__ y,
                                         float* __restrict__ dx, unsigned n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) dx[i] = y[i] <= 0 ? 0.0f : dy[i];
}
