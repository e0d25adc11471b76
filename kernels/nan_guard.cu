// nan_guard: stores the number of the first step whose values are not finite, on the device, so that the host need not
// wait.
//
//   first_bad[0] = step[0], if any value is infinite or NaN and first_bad[0] = −1
//
// Arrays     values any shape, contiguous, float32, n elements; step, first_bad (1,) int64, the latter −1 at first.
// Threads    one an element, blocks of any size along x. All that find something store the same number, the first
//            of them succeeds: no order matters.
// Versions   one.

extern "C" __global__ void nan_guard_check(const float* __restrict__ values, unsigned n,
                                           const long long* __restrict__ step, long long* first_bad) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float difference = values[i] - values[i];  // 0, or NaN where the value is infinite or NaN
  if (difference != 0) {
    atomicCAS(reinterpret_cast<unsigned long long*>(first_bad), static_cast<unsigned long long>(-1ll),
              static_cast<unsigned long long>(step[0]));
  }
}
