// One tensor-core product of a warp, in tf32 with float32 sums (mma.sync, sm_80 and newer).
//
//   to_tf32(x)                   x rounded to tf32's 10 bits of mantissa, ties away from zero; the other bits are 0
//   mma_m16n8k8_tf32(d, a, b)    d (16×8) += a (16×8) · b (8×8), by all 32 lanes at once
//   Fragment, multiply(d, a, b)  the same of float32 operands: by TF32 one product of the rounded operands, by FP32X3
//                                three, of what was rounded and of what that left (float32's error at a third of the
//                                speed; the product of the two rests is below it)
//
// A lane holds a few elements of each matrix; with g = lane / 4, t = lane % 4:
//   a[i]   row g + 8·(i % 2), column t + 4·(i / 2)
//   b[i]   row t + 4·i, column g
//   d[i]   row g + 8·(i / 2), column 2t + i % 2
#pragma once

__device__ __forceinline__ unsigned to_tf32(float x) {
#ifdef __CUDA_ARCH__
  unsigned rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
  return rounded;
#else
  return emulation::to_tf32(x);
#endif
}

__device__ __forceinline__ void mma_m16n8k8_tf32(float d[4], const unsigned a[4], const unsigned b[2]) {
#ifdef __CUDA_ARCH__
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  emulation::mma_m16n8k8_tf32(d, a, b);
#endif
}

enum Precision : unsigned { TF32, FP32X3 };

// What a lane holds of an operand.
template <unsigned COUNT, unsigned PRECISION>
struct Fragment {
  unsigned rounded[COUNT];
  unsigned rest[PRECISION == FP32X3 ? COUNT : 1];

  __device__ __forceinline__ void set(unsigned i, float x) {
    rounded[i] = to_tf32(x);
    if constexpr (PRECISION == FP32X3) rest[i] = to_tf32(x - __uint_as_float(rounded[i]));
  }
};

template <unsigned PRECISION>
__device__ __forceinline__ void multiply(float d[4], const Fragment<4, PRECISION>& a, const Fragment<2, PRECISION>& b) {
  if constexpr (PRECISION == FP32X3) {  // the small ones first
    mma_m16n8k8_tf32(d, a.rest, b.rounded);
    mma_m16n8k8_tf32(d, a.rounded, b.rest);
  }
  mma_m16n8k8_tf32(d, a.rounded, b.rounded);
}
