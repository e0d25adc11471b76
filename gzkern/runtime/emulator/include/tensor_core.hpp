// Tensor cores: the rounding of operands, mma.sync with its fragments laid out over a warp as PTX says, and ldmatrix.
#pragma once

#include "intrinsics.hpp"
#include "shared.hpp"
#include "warp.hpp"

namespace emulation {

// cvt.rna.tf32: nearest, ties away from zero. As the machine code has it, infinities and NaN are cut, not rounded.
inline unsigned to_tf32(float x) {
  const unsigned bits = bits_as<unsigned>(x);
  return (isnan(x) || isinf(x) ? bits : bits + 0x1000) & 0xffffe000;
}

// cvt.rn.bf16: nearest, ties to even; NaN becomes the one that the instruction gives.
inline unsigned short to_bf16(float x) {
  if (isnan(x)) return 0x7fff;
  const unsigned bits = bits_as<unsigned>(x);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

struct MmaOperand {
  const unsigned *a, *b;
  float* d;
};

// d += a b, of matrices whose elements `a(row, k)` and `b(k, column)` are somewhere in the lanes. The products of a tile
// are summed before they are added, in an order that is the emulator's own: the hardware's is not documented.
template <unsigned DEPTH, class A, class B>
EMULATION_UNSEEN void multiply(MmaOperand** lanes, A a, B b) {
  float products[16][8];
  for (unsigned row = 0; row < 16; row++)
    for (unsigned column = 0; column < 8; column++) {
      float sum = 0;
      for (unsigned k = 0; k < DEPTH; k++) sum = fmaf(a(row, k), b(k, column), sum);
      products[row][column] = sum;
    }
  for (unsigned lane = 0; lane < WARP; lane++)
    for (unsigned i = 0; i < 4; i++) lanes[lane]->d[i] += products[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

// The layout of the fragments is in kernels/include/mma.cuh.
EMULATION_UNSEEN inline void multiply_tf32(MmaOperand** lanes) {
  auto tf32 = [](unsigned bits) EMULATION_UNSEEN { return bits_as<float>(bits & 0xffffe000); };  // the rest is ignored
  multiply<8>(
      lanes,
      [&](unsigned row, unsigned k)
          EMULATION_UNSEEN { return tf32(lanes[row % 8 * 4 + k % 4]->a[row / 8 + k / 4 * 2]); },
      [&](unsigned k, unsigned column) EMULATION_UNSEEN { return tf32(lanes[column * 4 + k % 4]->b[k / 4]); });
}

EMULATION_UNSEEN inline void multiply_bf16(MmaOperand** lanes) {
  auto half = [](unsigned pair, unsigned k)
                  EMULATION_UNSEEN { return bits_as<float>(k % 2 ? pair & 0xffff0000 : pair << 16); };
  multiply<16>(
      lanes,
      [&](unsigned row, unsigned k)
          EMULATION_UNSEEN { return half(lanes[row % 8 * 4 + k % 8 / 2]->a[row / 8 + k / 8 * 2], k); },
      [&](unsigned k, unsigned column) EMULATION_UNSEEN { return half(lanes[column * 4 + k % 8 / 2]->b[k / 8], k); });
}

inline void mma_m16n8k8_tf32(float d[4], const unsigned a[4], const unsigned b[2], Place place = Place::current()) {
  MmaOperand mine{a, b, d};
  collective(
      "mma.sync m16n8k8", ~0u, mine, [](MmaOperand** lanes, unsigned) EMULATION_UNSEEN { multiply_tf32(lanes); },
      place);
}

inline void mma_m16n8k16_bf16(float d[4], const unsigned a[4], const unsigned b[2], Place place = Place::current()) {
  MmaOperand mine{a, b, d};
  collective(
      "mma.sync m16n8k16", ~0u, mine, [](MmaOperand** lanes, unsigned) EMULATION_UNSEEN { multiply_bf16(lanes); },
      place);
}

struct MatrixRow {
  unsigned short values[8];
  unsigned* to;
};

// ldmatrix.x4.trans. Each lane reads the row that it has the address of, so that the sanitizers see who reads it.
EMULATION_UNTRACED inline void load_matrices_transposed(unsigned (&to)[4], const unsigned short* row,
                                                        Place place = Place::current()) {
  auto [block, thread] = here();
  const size_t offset = block->shared->offset(row);
  if (offset >= SharedMemory::BYTES || offset % 16)
    block->fail("thread %u loads a row of a matrix from memory that is not shared, or not 16-byte aligned, in %s(%u)",
                thread->number, place.file_name(), place.line());
  note_shared_read(row, sizeof(MatrixRow::values));
  MatrixRow mine{{}, to};
  for (unsigned i = 0; i < 8; i++) mine.values[i] = row[i];
  collective(
      "ldmatrix", ~0u, mine,
      [](MatrixRow** lanes, unsigned) EMULATION_UNSEEN {
        for (unsigned lane = 0; lane < WARP; lane++)
          for (unsigned matrix = 0; matrix < 4; matrix++) {
            MatrixRow** const rows = lanes + 8 * matrix;
            const unsigned row = lane % 4 * 2, column = lane / 4;
            lanes[lane]->to[matrix] = rows[row]->values[column] | rows[row + 1]->values[column] << 16;
          }
      },
      place);
}

}  // namespace emulation
