"""Two register tiles, in LLVM vector code, on which the fast CPU paths of convolution and dense layers rest.

In C,H,W,N the long axis is contiguous, so neither product needs packing, im2col or BLAS; what it needs is a
block of accumulators that stays in registers, which LLVM does not find by itself in a loop nest. Hence these
Numba intrinsics, which spell it out:

- ``outer``: out[k, i] += Σ_t w[t, k] · x[t, i]. Vectors run along i, weights are broadcast; rows of ``x`` and
  ``w`` are found through tables of offsets, so that the taps of a convolution are rows like any other.
- ``inner``: out[j, k] += Σ_i x[j, i] · z[k, i]. Vectors run along i and are summed once at the end.

Eight by three accumulators of 16 floats fill 24 of the 32 AVX-512 registers; narrower machines get a tile that
fits theirs. Each result is one chain of fused multiply-adds in a fixed order, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from . import compiled

_FEATURES = binding.get_host_cpu_features()
if _FEATURES.get("avx512f"):
    LANES, TILE_ROWS, TILE_VECTORS = 16, 8, 3
elif _FEATURES.get("avx2"):
    LANES, TILE_ROWS, TILE_VECTORS = 8, 4, 3  # 12 of 16 registers
else:
    LANES, TILE_ROWS, TILE_VECTORS = 4, 8, 3  # Neon: 24 of 32; SSE spills and stays correct

_F32 = ir.FloatType()
_I64 = ir.IntType(64)
_CONTRACT = ("contract",)


def _const(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


def _vector(lanes: int) -> ir.Type:
    return ir.VectorType(_F32, lanes) if lanes > 1 else _F32


def _zero(lanes: int) -> ir.Constant:
    return ir.Constant(_vector(lanes), [0.0] * lanes if lanes > 1 else 0.0)


def _pointers(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> list[Any]:
    """The arguments, arrays replaced by their data pointers."""
    return [
        context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, args, strict=True)
    ]


def _at(builder: ir.IRBuilder, pointer: Any, index: Any, lanes: int = 1) -> Any:
    """Pointer to ``lanes`` floats (or one integer) at ``pointer[index]``."""
    address = builder.gep(pointer, [index])
    return builder.bitcast(address, _vector(lanes).as_pointer()) if lanes > 1 else address


def _splat(builder: ir.IRBuilder, scalar: Any, lanes: int) -> Any:
    if lanes == 1:
        return scalar
    undefined = ir.Constant(_vector(lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def _multiply_add(builder: ir.IRBuilder, a: Any, b: Any, accumulator: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=_CONTRACT), accumulator, flags=_CONTRACT)


def _sum_lanes(builder: ir.IRBuilder, vector: Any, lanes: int) -> Any:
    """The lanes added pairwise: halves, quarters, … (a fixed tree)."""
    while lanes > 1:
        half = lanes // 2
        undefined = ir.Constant(vector.type, ir.Undefined)
        index = ir.VectorType(ir.IntType(32), half)
        low = builder.shuffle_vector(vector, undefined, ir.Constant(index, list(range(half))))
        high = builder.shuffle_vector(vector, undefined, ir.Constant(index, list(range(half, lanes))))
        vector, lanes = builder.fadd(low, high), half
        if lanes == 1:
            vector = builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
    return vector


class _Loop:
    """``for i in range(0, stop, step)`` (at least one pass) that carries a list of accumulators."""

    def __init__(self, builder: ir.IRBuilder, carried: int, lanes: int):
        self.builder, before = builder, builder.block
        self.body = builder.append_basic_block("tile")
        self.after = builder.append_basic_block("tile.end")
        builder.branch(self.body)
        builder.position_at_end(self.body)
        self.index = builder.phi(_I64)
        self.index.add_incoming(_const(0), before)
        self.carried = [builder.phi(_vector(lanes)) for _ in range(carried)]
        for phi in self.carried:
            phi.add_incoming(_zero(lanes), before)

    def close(self, updated: list[Any], stop: Any, step: int) -> None:
        following = self.builder.add(self.index, _const(step))
        self.index.add_incoming(following, self.body)
        for phi, value in zip(self.carried, updated, strict=True):
            phi.add_incoming(value, self.body)
        self.builder.cbranch(self.builder.icmp_signed("<", following, stop), self.body, self.after)
        self.builder.position_at_end(self.after)


def _outer_tile(rows: int, vectors: int, lanes: int) -> Any:
    @intrinsic
    def tile(_, w, w_base, w_rows, x, x_base, x_rows, taps, out, out_base, out_stride, keep):  # type: ignore[no-untyped-def]
        signature = types.void(w, w_base, w_rows, x, x_base, x_rows, taps, out, out_base, out_stride, keep)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            w, w_base, w_rows, x, x_base, x_rows, taps, out, out_base, out_stride, keep = _pointers(
                context, builder, signature, args
            )
            w, x, out = (_at(builder, p, b) for p, b in ((w, w_base), (x, x_base), (out, out_base)))
            loop = _Loop(builder, rows * vectors, lanes)
            w_row = _at(builder, w, builder.load(_at(builder, w_rows, loop.index)))
            x_row = _at(builder, x, builder.load(_at(builder, x_rows, loop.index)))
            loaded = [builder.load(_at(builder, x_row, _const(v * lanes), lanes), align=4) for v in range(vectors)]
            updated = []
            for k in range(rows):
                weight = _splat(builder, builder.load(_at(builder, w_row, _const(k))), lanes)
                updated += [
                    _multiply_add(builder, weight, loaded[v], loop.carried[k * vectors + v]) for v in range(vectors)
                ]
            loop.close(updated, taps, 1)
            for k in range(rows):
                row = _at(builder, out, builder.mul(out_stride, _const(k)))
                for v in range(vectors):
                    target = _at(builder, row, _const(v * lanes), lanes)
                    start = builder.select(keep, builder.load(target, align=4), _zero(lanes))
                    builder.store(builder.fadd(start, updated[k * vectors + v]), target, align=4)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def _inner_tile(rows: int, columns: int, lanes: int) -> Any:
    @intrinsic
    def tile(_, x, x_base, x_rows, first, z, z_base, z_stride, length, out, out_base, out_stride):  # type: ignore[no-untyped-def]
        signature = types.void(x, x_base, x_rows, first, z, z_base, z_stride, length, out, out_base, out_stride)

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            x, x_base, x_rows, first, z, z_base, z_stride, length, out, out_base, out_stride = _pointers(
                context, builder, signature, args
            )
            x, z, out = (_at(builder, p, b) for p, b in ((x, x_base), (z, z_base), (out, out_base)))
            offsets = [builder.load(_at(builder, x_rows, builder.add(first, _const(j)))) for j in range(rows)]
            x_row = [_at(builder, x, offset) for offset in offsets]
            z_row = [_at(builder, z, builder.mul(z_stride, _const(k))) for k in range(columns)]
            loop = _Loop(builder, rows * columns, lanes)
            left = [builder.load(_at(builder, p, loop.index, lanes), align=4) for p in x_row]
            updated = list(loop.carried)
            for k in range(columns):
                right = builder.load(_at(builder, z_row[k], loop.index, lanes), align=4)
                for j in range(rows):
                    entry = j * columns + k
                    updated[entry] = _multiply_add(builder, left[j], right, loop.carried[entry])
            loop.close(updated, length, lanes)
            for j in range(rows):
                row = _at(builder, out, builder.mul(out_stride, _const(j)))
                for k in range(columns):
                    target = _at(builder, row, _const(k))
                    total = _sum_lanes(builder, updated[j * columns + k], lanes)
                    builder.store(builder.fadd(builder.load(target), total), target)
            return context.get_dummy_value()

        return signature, codegen

    return tile


WIDE = LANES * TILE_VECTORS  # floats along i of the full outer tile
TERMS = 4096  # the longest chain of float32 additions; longer sums go through memory
INNER_ROWS, INNER_COLUMNS = TILE_VECTORS, TILE_ROWS

_outer_wide = _outer_tile(TILE_ROWS, TILE_VECTORS, LANES)
_outer_vector = _outer_tile(TILE_ROWS, 1, LANES)
_outer_scalar = _outer_tile(TILE_ROWS, 1, 1)
_outer_row_wide = _outer_tile(1, TILE_VECTORS, LANES)
_outer_row_vector = _outer_tile(1, 1, LANES)
_outer_row_scalar = _outer_tile(1, 1, 1)


@compiled()
def _outer(w, w_base, w_rows, K, x, x_base, x_rows, taps, out, out_base, out_stride, length, keep):  # type: ignore[no-untyped-def]
    i = 0
    while i < length:
        step = WIDE if length - i >= WIDE else LANES if length - i >= LANES else 1
        a = x_base + i
        k = 0
        while k < K:
            b, o = w_base + k, out_base + k * out_stride + i
            if K - k >= TILE_ROWS:
                if step == WIDE:
                    _outer_wide(w, b, w_rows, x, a, x_rows, taps, out, o, out_stride, keep)
                elif step == LANES:
                    _outer_vector(w, b, w_rows, x, a, x_rows, taps, out, o, out_stride, keep)
                else:
                    _outer_scalar(w, b, w_rows, x, a, x_rows, taps, out, o, out_stride, keep)
                k += TILE_ROWS
            else:
                if step == WIDE:
                    _outer_row_wide(w, b, w_rows, x, a, x_rows, taps, out, o, out_stride, keep)
                elif step == LANES:
                    _outer_row_vector(w, b, w_rows, x, a, x_rows, taps, out, o, out_stride, keep)
                else:
                    _outer_row_scalar(w, b, w_rows, x, a, x_rows, taps, out, o, out_stride, keep)
                k += 1
        i += step


@compiled()
def outer(w, w_base, w_rows, K, x, x_base, x_rows, taps, out, out_base, out_stride, length, keep):  # type: ignore[no-untyped-def]
    """out[k, i] = (out[k, i] if keep else 0) + Σ_t w[t, k] · x[t, i], for k < K and i < length.

    All arrays are flat float32, the tables int64. Element (t, k) of w is at ``w_base + w_rows[t] + k``, (t, i)
    of x at ``x_base + x_rows[t] + i``, (k, i) of out at ``out_base + k·out_stride + i``.
    """
    if taps == 0 and not keep:
        for k in range(K):
            out[out_base + k * out_stride : out_base + k * out_stride + length] = 0
    for first in range(0, taps, TERMS):
        terms = min(TERMS, taps - first)
        _outer(
            w, w_base, w_rows[first:], K, x, x_base, x_rows[first:], terms,
            out, out_base, out_stride, length, keep or first > 0,
        )  # fmt: skip


_inner_full = _inner_tile(INNER_ROWS, INNER_COLUMNS, LANES)
_inner_row = _inner_tile(1, INNER_COLUMNS, LANES)
_inner_one = _inner_tile(1, 1, LANES)
_inner_full_scalar = _inner_tile(INNER_ROWS, INNER_COLUMNS, 1)
_inner_row_scalar = _inner_tile(1, INNER_COLUMNS, 1)
_inner_one_scalar = _inner_tile(1, 1, 1)


@compiled()
def inner(x, x_base, x_rows, first, last, z, z_base, z_stride, K, length, out, out_base, out_stride):  # type: ignore[no-untyped-def]
    """out[j, k] += Σ_i x[j, i] · z[k, i], for first ≤ j < last, k < K and i < length.

    Element (j, i) of x is at ``x_base + x_rows[j] + i``, (k, i) of z at ``z_base + k·z_stride + i``, (j, k) of
    out at ``out_base + j·out_stride + k``.
    """
    whole = length - length % LANES
    rest = length - whole
    k = 0
    while k < K:
        columns = INNER_COLUMNS if K - k >= INNER_COLUMNS else 1
        c = z_base + k * z_stride
        j = first
        while j < last:
            rows = INNER_ROWS if columns > 1 and last - j >= INNER_ROWS else 1
            o = out_base + j * out_stride + k
            if whole > 0:
                if rows > 1:
                    _inner_full(x, x_base, x_rows, j, z, c, z_stride, whole, out, o, out_stride)
                elif columns > 1:
                    _inner_row(x, x_base, x_rows, j, z, c, z_stride, whole, out, o, out_stride)
                else:
                    _inner_one(x, x_base, x_rows, j, z, c, z_stride, whole, out, o, out_stride)
            if rest > 0:
                a, b = x_base + whole, c + whole
                if rows > 1:
                    _inner_full_scalar(x, a, x_rows, j, z, b, z_stride, rest, out, o, out_stride)
                elif columns > 1:
                    _inner_row_scalar(x, a, x_rows, j, z, b, z_stride, rest, out, o, out_stride)
                else:
                    _inner_one_scalar(x, a, x_rows, j, z, b, z_stride, rest, out, o, out_stride)
            j += rows
        k += columns
