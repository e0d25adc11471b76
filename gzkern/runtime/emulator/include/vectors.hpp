// CUDA's short vectors, with CUDA's alignment.
#pragma once

// Not called: g++ shows the memory trace no access that stores what a call returns.
#define EMULATION_INLINED __attribute__((always_inline)) constexpr

#define EMULATION_VECTORS(T, name)                                              \
  struct name##1 { T x; };                                                      \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                            \
  struct name##3 { T x, y, z; };                                                \
  struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; }; \
  EMULATION_INLINED name##1 make_##name##1(T x) { return {x}; }                 \
  EMULATION_INLINED name##2 make_##name##2(T x, T y) { return {x, y}; }         \
  EMULATION_INLINED name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
  EMULATION_INLINED name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

EMULATION_VECTORS(signed char, char)
EMULATION_VECTORS(unsigned char, uchar)
EMULATION_VECTORS(short, short)
EMULATION_VECTORS(unsigned short, ushort)
EMULATION_VECTORS(int, int)
EMULATION_VECTORS(unsigned, uint)
EMULATION_VECTORS(long long, longlong)
EMULATION_VECTORS(unsigned long long, ulonglong)
EMULATION_VECTORS(float, float)
EMULATION_VECTORS(double, double)
#undef EMULATION_VECTORS
#undef EMULATION_INLINED

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};
