// Tensor-core products of a warp, with float32 sums (mma.sync, sm_80 and newer).
//
//   to_tf32(x)                   x rounded to tf32's 10 bits of mantissa, ties away from zero; the other bits are 0 (of a
//                                NaN too, which is infinite if it has no others)
//   mma_m16n8k8_tf32(d, a, b)    d (16×8) += a (16×8) · b (8×8), by all 32 lanes at once
//   rounded4(x)                  four of them
//   Fragment, multiply(d, a, b)  one a and several b of float32 operands: by TF32 a product of the rounded ones each, by
//                                FP32X3 three, of what was rounded and of what that left (float32's error at a third of
//                                the speed; the product of the two rests is below it)
//   to_bf16(x)                   x rounded to bfloat16, ties to even, as its 16 bits
//   mma_m16n8k16_bf16(d, a, b)   d (16×8) += a (16×16) · b (16×8) of bfloat16; multiply(d, a, b) by BF16
//   load_matrices_transposed(to, row)
//                                four 8×8 matrices of 16 bits from shared memory (ldmatrix); lane l has the address of
//                                row l % 8 of matrix l / 8, and gets in to[i] elements (2t, g) and (2t + 1, g) of matrix i
//
// A lane holds a few elements of each matrix; with g = lane / 4, t = lane % 4:
//   a[i]   row g + 8·(i % 2), column t + 4·(i / 2)
//   b[i]   row t + 4·i, column g
//   d[i]   row g + 8·(i / 2), column 2t + i % 2
// By bf16 the low and the high half of
//   a[i]   row g + 8·(i % 2), columns 2t and 2t + 1, + 8·(i / 2)
//   b[i]   rows 2t and 2t + 1, + 8·i, column g
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

__device__ __forceinline__ float4 rounded4(float4 x) {
  return make_float4(__uint_as_float(to_tf32(x.x)), __uint_as_float(to_tf32(x.y)), __uint_as_float(to_tf32(x.z)),
                     __uint_as_float(to_tf32(x.w)));
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

__device__ __forceinline__ unsigned short to_bf16(float x) {
#ifdef __CUDA_ARCH__
  unsigned short rounded;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded) : "f"(x));
  return rounded;
#else
  return emulation::to_bf16(x);
#endif
}

__device__ __forceinline__ void mma_m16n8k16_bf16(float d[4], const unsigned a[4], const unsigned b[2]) {
#ifdef __CUDA_ARCH__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  emulation::mma_m16n8k16_bf16(d, a, b);
#endif
}

__device__ __forceinline__ void load_matrices_transposed(unsigned (&to)[4], const unsigned short* row) {
#ifdef __CUDA_ARCH__
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
#else
  emulation::load_matrices_transposed(to, row);
#endif
}

enum Precision : unsigned { TF32, FP32X3, BF16 };

// What a lane holds of an operand; by BF16 two numbers an element.
template <unsigned COUNT, unsigned PRECISION>
struct Fragment {
  unsigned rounded[COUNT];
  unsigned rest[PRECISION == FP32X3 ? COUNT : 1];

  __device__ __forceinline__ void set(unsigned i, float x) {
    static_assert(PRECISION != BF16, "bfloat16 is loaded in pairs");
    rounded[i] = to_tf32(x);
    // Half of tf32's last place, and the product ignores the bits beyond; of NaN and infinity `rounded` tells enough.
    if constexpr (PRECISION == FP32X3) rest[i] = __float_as_uint(x - __uint_as_float(rounded[i])) + 0x1000;
  }
};

// One a, a row of b. By FP32X3 each product is taken apart from the sum, and added to it by a rounded addition: the
// tensor cores cut off the low bits of what they add, which over hundreds of products is more than float32's error.
template <unsigned PRECISION, unsigned COUNT>
__device__ __forceinline__ void multiply(float (&d)[COUNT][4], const Fragment<4, PRECISION>& a,
                                         const Fragment<2, PRECISION> (&b)[COUNT]) {
  if constexpr (PRECISION == FP32X3) {
    float products[COUNT][4] = {};
#pragma unroll
    for (unsigned j = 0; j < COUNT; ++j) mma_m16n8k8_tf32(products[j], a.rest, b[j].rounded);
#pragma unroll
    for (unsigned j = 0; j < COUNT; ++j) mma_m16n8k8_tf32(products[j], a.rounded, b[j].rest);
#pragma unroll
    for (unsigned j = 0; j < COUNT; ++j) mma_m16n8k8_tf32(products[j], a.rounded, b[j].rounded);
#pragma unroll
    for (unsigned j = 0; j < COUNT; ++j)
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) d[j][i] += products[j][i];
  } else {
#pragma unroll
    for (unsigned j = 0; j < COUNT; ++j) {
      if constexpr (PRECISION == BF16)
        mma_m16n8k16_bf16(d[j], a.rounded, b[j].rounded);
      else
        mma_m16n8k8_tf32(d[j], a.rounded, b[j].rounded);
    }
  }
}
