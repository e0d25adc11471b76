"""The fast warp: Numba, single-threaded and without the interpreter lock; see gzkern.augment.warp.

A row of a crop is made in two passes over its samples: where they lie, which the compiler turns into vector code, and
what they are, where the three channels of a pixel are the lanes of a vector.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, unreachable"

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ..cpu.jit import compiled

# Declared read-only, the images may be an array or a memory map of a file: one compiled form for both.
_SIGNATURE = types.uint64(
    types.Array(types.uint8, 4, "C", readonly=True),
    types.int64[::1],
    types.float64[:, :, :, ::1],
    types.float32[:, ::1],
    types.float32[:, :, :, :, ::1],
)
_CACHE_LINE = 64  # bytes


@njit
def _read_ahead(pixels, height, matrices, target):
    """Bring the image rows that the crops sample into the cache: read a byte a cache line, return the sum.

    The samples of a rotated crop jump from row to row and wait for memory at each; a sequential read the
    processor prefetches. It makes the warp of an image that is not in the cache yet twice as fast.
    """
    first, last = float(height), 0.0
    for k in range(2):
        _, (yi, yj, y0) = matrices[k]
        across, down = yi * (target - 1), yj * (target - 1)
        first = min(first, y0 + min(across, 0.0) + min(down, 0.0))
        last = max(last, y0 + max(across, 0.0) + max(down, 0.0))
    pitch = len(pixels) // height
    start, stop = int(max(first, 0.0)) * pitch, int(min(last + 2.0, height)) * pitch
    total = np.uint64(0)
    for position in range(start, stop, _CACHE_LINE):
        total += pixels[position]
    return total


@njit(error_model="numpy")
def _locate(start, step, size, positions, base, fraction):
    """Split the positions start + step·i on an axis of ``size`` pixels into pixel ``base`` and ``fraction``.

    Positions outside are mirrored about the centres of the first and the last pixel, any number of times.
    """
    last = size - 1.0
    for i in range(len(positions)):
        positions[i] = start + step * np.int32(i)  # AVX2 has no vectors of 64-bit integers to floats
    # The positions are monotonic: both ends inside, all inside.
    if min(positions[0], positions[-1]) < 0.0 or max(positions[0], positions[-1]) > last:
        for i in range(len(positions)):
            distance = abs(positions[i])
            distance -= 2.0 * last * math.floor(distance / (2.0 * last))
            positions[i] = max(0.0, min(distance, 2.0 * last - distance))
    for i in range(len(positions)):
        base[i] = min(np.int32(positions[i]), np.int32(size - 2))  # base + 1 is a pixel too
        fraction[i] = positions[i] - base[i]


_F32, _I32 = ir.FloatType(), ir.IntType(32)
_BYTES, _FLOATS = ir.VectorType(ir.IntType(8), 4), ir.VectorType(_F32, 4)


@intrinsic
def _sample(_, pixels, corner, pitch, fx, fy, red, green, blue, out, position):
    """Write three floats at ``out[position]``: the bilinear mean of a pixel and its neighbours, scaled and shifted.

    The pixel is at ``pixels[corner]``, that below it ``pitch`` bytes further; of each row six bytes are read.
    """
    signature = types.void(pixels, corner, pitch, fx, fy, red, green, blue, out, position)

    def codegen(context, builder, signature, args):
        pixels, corner, pitch, fx, fy, red, green, blue, out, position = args
        pixels, out = (
            context.make_array(kind)(context, builder, array).data
            for kind, array in ((signature.args[0], pixels), (signature.args[8], out))
        )

        def vector(*scalars):
            made = ir.Constant(_FLOATS, ir.Undefined)
            for lane, scalar in enumerate(scalars):
                made = builder.insert_element(made, scalar, _I32(lane))
            return made

        def constant(value):
            return ir.Constant(_FLOATS, [value] * 4)

        def lanes(values, *chosen):
            undefined = ir.Constant(values.type, ir.Undefined)
            return builder.shuffle_vector(values, undefined, ir.Constant(ir.VectorType(_I32, len(chosen)), chosen))

        def load(pointer, offset):
            pointer = builder.bitcast(builder.gep(pointer, [_I32(offset)]), _BYTES.as_pointer())
            return builder.uitofp(builder.load(pointer, align=1), _FLOATS)

        def mix(a, b, weight):  # a + weight·(b − a), exactly a if they are equal
            product = builder.fmul(lanes(vector(weight), 0, 0, 0, 0), builder.fsub(b, a), flags=("contract",))
            return builder.fadd(product, a, flags=("contract",))

        upper = builder.gep(pixels, [corner])
        lower = builder.gep(upper, [pitch])
        left = mix(load(upper, 0), load(lower, 0), fy)  # R G B R
        right = mix(load(upper, 2), load(lower, 2), fy)  # B R G B
        mean = mix(left, lanes(right, 1, 2, 3, 3), fx)
        value = builder.fadd(builder.fdiv(mean, constant(255.0)), vector(red, green, blue))
        # Each is one instruction, and leaves a NaN as it is.
        value = builder.select(builder.fcmp_ordered("<", constant(1.0), value), constant(1.0), value)
        value = builder.select(builder.fcmp_ordered(">", constant(0.0), value), constant(0.0), value)
        pointer = builder.bitcast(builder.gep(out, [position]), ir.VectorType(_F32, 3).as_pointer())
        builder.store(lanes(value, 0, 1, 2), pointer, align=4)
        return context.get_dummy_value()

    return signature, codegen


@compiled(signature_or_function=_SIGNATURE)
def warp_images(images, indices, matrices, shifts, out):
    """Warp a batch as ``warp.warp_batch`` does, without its checks.

    The value returned means nothing: were the bytes read ahead not used, the compiler would not read them.
    """
    height, width, target = images.shape[1], images.shape[2], out.shape[2]
    left, top = np.empty(target, np.int32), np.empty(target, np.int32)
    fx, fy = np.empty(target, np.float32), np.empty(target, np.float32)
    positions = np.empty(target, np.float64)
    unused = np.uint64(0)
    for b in range(len(indices)):
        pixels, crops = images[indices[b]].reshape(-1), out[b].reshape(-1)
        unused += _read_ahead(pixels, height, matrices[b], target)
        red, green, blue = shifts[b]
        position = 0
        for k in range(2):
            (xi, xj, x0), (yi, yj, y0) = matrices[b, k]
            for j in range(target):
                _locate(x0 + xj * j, xi, width, positions, left, fx)
                _locate(y0 + yj * j, yi, height, positions, top, fy)
                for i in range(target):
                    corner = 3 * (top[i] * width + left[i])
                    _sample(pixels, corner, 3 * width, fx[i], fy[i], red, green, blue, crops, position)
                    position += 3
    return unused
