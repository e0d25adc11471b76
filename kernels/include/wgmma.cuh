// Tensor-core products of a warpgroup, four warps, in tf32 with float32 sums (wgmma, sm_90a alone).
//
//   wgmma(d, a, b)   d (64×N) += a (64×8) · b (8×N), N = 16, 32 or 64; started, not yet done
//   wgmma<false>     d = a · b
//   wgmma_fence()    before the first product, and after registers of d or a were written otherwise
//   wgmma_commit()   close a group of products
//   wgmma_wait<N>()  until all but the last N groups are done: then their a and b may be overwritten, their d read
//   fence_async()    what this thread wrote to shared memory, by copies that it has waited for too, is there for products
//                    after a barrier
//
// A warp has 16 rows of d and a, and a lane of it what mma.cuh says of an m16n8k8 product, for each 8 columns in turn:
// d[4·j + i] is d[i] of columns 8j to 8j + 7. b lies in shared memory, as Columns says: rounded to tf32, in tiles of
// 8 columns × 4 rows, each 128 bytes, a column's 4 rows side by side; the tile with the other 4 rows follows it, then
// come those of the next 8 columns.
#pragma once

#ifdef __CUDA_ARCH__
using Columns = unsigned;  // the lower half of a matrix descriptor without swizzling: address, tile along k
struct Place {
  static __device__ constexpr Place current() { return {}; }
};
#else
using Columns = const float*;
using emulation::Place;  // of the caller, by which the emulated device tells instructions apart
#endif

constexpr unsigned WGMMA_TILE = 32;  // floats of a tile

__device__ __forceinline__ Columns columns_at(const float* shared) {
#ifdef __CUDA_ARCH__
  return static_cast<unsigned>(__cvta_generic_to_shared(shared)) >> 4 | (4 * WGMMA_TILE >> 4) << 16;
#else
  return shared;
#endif
}

// The columns that begin so many floats, a multiple of four, behind these.
__device__ __forceinline__ Columns columns_after(Columns columns, unsigned floats) {
#ifdef __CUDA_ARCH__
  return columns + floats / 4;
#else
  return columns + floats;
#endif
}

// Other architectures compile the file that has such a kernel, and never launch it.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define WGMMA_ASM(...) __trap()
#else
#define WGMMA_ASM(...) asm volatile(__VA_ARGS__)
#endif

// clang-format off
#ifdef __CUDA_ARCH__
#define WGMMA_D8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
                    "+f"(d[i + 6]), "+f"(d[i + 7])
#define WGMMA_A_B "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b), "n"(8 * WGMMA_TILE >> 4), "n"(ADD)
#endif

template <bool ADD = true>
__device__ __forceinline__ void wgmma(float (&d)[8], const unsigned (&a)[4], Columns b, Place place = Place::current()) {
#ifdef __CUDA_ARCH__
  WGMMA_ASM("{.reg .b64 b; mov.b64 b, {%12, %13}; wgmma.mma_async.sync.aligned.m64n16k8.f32.tf32.tf32 {%0, %1, %2, %3, %4, %5, %6, %7}, "
            "{%8, %9, %10, %11}, b, %14, 1, 1;}"
            : WGMMA_D8(0) : WGMMA_A_B);
#else
  emulation::wgmma(d, 2, ADD, a, b, place);
#endif
}

template <bool ADD = true>
__device__ __forceinline__ void wgmma(float (&d)[16], const unsigned (&a)[4], Columns b, Place place = Place::current()) {
#ifdef __CUDA_ARCH__
  WGMMA_ASM("{.reg .b64 b; mov.b64 b, {%20, %21}; wgmma.mma_async.sync.aligned.m64n32k8.f32.tf32.tf32 {%0, %1, %2, %3, %4, %5, %6, %7, "
            "%8, %9, %10, %11, %12, %13, %14, %15}, {%16, %17, %18, %19}, b, %22, 1, 1;}"
            : WGMMA_D8(0), WGMMA_D8(8) : WGMMA_A_B);
#else
  emulation::wgmma(d, 4, ADD, a, b, place);
#endif
}

template <bool ADD = true>
__device__ __forceinline__ void wgmma(float (&d)[32], const unsigned (&a)[4], Columns b, Place place = Place::current()) {
#ifdef __CUDA_ARCH__
  WGMMA_ASM("{.reg .b64 b; mov.b64 b, {%36, %37}; wgmma.mma_async.sync.aligned.m64n64k8.f32.tf32.tf32 {%0, %1, %2, %3, %4, %5, %6, %7, "
            "%8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
            "%24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, b, %38, 1, 1;}"
            : WGMMA_D8(0), WGMMA_D8(8), WGMMA_D8(16), WGMMA_D8(24) : WGMMA_A_B);
#else
  emulation::wgmma(d, 8, ADD, a, b, place);
#endif
}
// clang-format on

__device__ __forceinline__ void wgmma_fence(Place place = Place::current()) {
#ifdef __CUDA_ARCH__
  WGMMA_ASM("wgmma.fence.sync.aligned;" :: : "memory");
#else
  emulation::wgmma_fence(place);
#endif
}

__device__ __forceinline__ void wgmma_commit(Place place = Place::current()) {
#ifdef __CUDA_ARCH__
  WGMMA_ASM("wgmma.commit_group.sync.aligned;" :: : "memory");
#else
  emulation::wgmma_commit(place);
#endif
}

template <unsigned N>
__device__ __forceinline__ void wgmma_wait(Place place = Place::current()) {
#ifdef __CUDA_ARCH__
  WGMMA_ASM("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
#else
  emulation::wgmma_wait(N, place);
#endif
}

__device__ __forceinline__ void fence_async() {
#ifdef __CUDA_ARCH__
  WGMMA_ASM("fence.proxy.async.shared::cta;" :: : "memory");
#else
  emulation::fence_async();
#endif
}
