"""Cases of kernels/conv2d_*.cu."""

from functools import cache, partial
from unittest import mock

import numpy as np
from harness import Case
from numerics import UNIT, assert_bounded, assert_within_error_rule, normal, wide

from gzkern.core.shapes import Conv2dSizes
from gzkern.cpu import conv2d as oracle
from gzkern.cuda.conv2d import backward_bias as conv2d_backward_bias
from gzkern.cuda.conv2d import backward_weights as conv2d_backward_weights
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.cuda.conv2d.choice import LADDERS
from gzkern.runtime.arrays import backend_of

# C, H, W, N, R, S, K and the form: ones, primes, tiles ± 1 along every extent, odd sums under a pool, empty batches.
QUICK = [((3, 6, 7, 8, 3, 2, 4), "pool"), ((2, 5, 4, 7, 2, 2, 5), "relu"), ((2, 4, 5, 3, 3, 3, 3), "plain")]
SHAPES = [
    *QUICK,
    ((1, 1, 1, 1, 1, 1, 1), "pool"),
    ((3, 7, 5, 31, 3, 2, 7), "pool"),
    ((2, 6, 6, 33, 3, 3, 33), "pool"),
    ((5, 9, 9, 32, 2, 4, 32), "relu"),
    ((4, 8, 8, 36, 3, 3, 36), "pool"),
    ((7, 4, 12, 12, 1, 1, 65), "plain"),
    ((1, 12, 4, 5, 5, 1, 17), "relu"),
    ((33, 5, 5, 4, 5, 5, 8), "plain"),
    ((8, 7, 9, 20, 6, 3, 16), "pool"),
    ((2, 5, 5, 0, 3, 3, 4), "pool"),
    # the published network's layers: their channels and filters, fewer positions and images
    ((3, 13, 10, 20, 6, 6, 32), "pool"),
    ((32, 7, 8, 8, 5, 5, 64), "pool"),
    ((64, 4, 5, 8, 3, 3, 128), "relu"),
    ((128, 4, 3, 8, 3, 3, 128), "pool"),
]
LONG = [((920, 3, 3, 4, 3, 3, 3), "relu"), ((2, 3, 4, 6, 3, 3, 920), "plain")]  # more than twice 4,096 terms of a sum
MANY_IMAGES = ((1, 3, 3, 4500, 2, 2, 2), "pool")
MANY_STEPS = ((2, 4, 3, 40, 2, 2, 4), "pool")  # of one part of the gradient of the weights


def small_integers(*shape, seed=0):
    """Numbers whose sums and products are exact, few enough that positions tie."""
    return np.random.default_rng((seed, *shape)).integers(-1, 2, shape).astype(np.float32)


def layer(shape, draw=normal):
    C, H, W, N, R, S, K = shape
    return {"x": draw(C, H, W, N), "weight": draw(C, R, S, K, seed=1), "bias": draw(K, H - R + 1, W - S + 1, seed=2)}


def aligned(shape, name):
    """Whether a vectorised version takes it: multiples of 4 images and, where filters are read by fours, of filters."""
    _, _, _, N, _, _, K = shape
    return N % 4 == 0 and (name in ("weights", "bias") or K % 4 == 0)


def flags(epilogue):
    return {"activate": epilogue != "plain", "pool": epilogue == "pool"}


def windows(z, fill):
    """(4, K, ⌈P/2⌉, ⌈Q/2⌉, N): the positions of every 2×2 window, ``fill`` beyond the border."""
    K, P, Q, N = z.shape
    padded = np.full((K, P + P % 2, Q + Q % 2, N), fill)
    padded[:, :P, :Q] = z
    return np.stack([padded[:, corner // 2 :: 2, corner % 2 :: 2] for corner in range(4)])


def as_they_are(x):
    """The operands that a product of float32 sees."""
    return x


@cache
def exact_sums(shape, rounded, factor):
    """The sums before ReLU and pool in float64, of rounded operands, and how far off a result may be."""
    inputs = wide(layer(shape))
    inputs.update((name, rounded(inputs[name])) for name in ("x", "weight"))
    z, _ = oracle.forward_oracle(*inputs.values(), activate=False, pool=False)
    squares, _ = oracle.forward_oracle(*(a**2 for a in inputs.values()), activate=False, pool=False)
    C, _, _, _, R, S, _ = shape
    return z, factor * UNIT * np.sqrt(C * R * S + 1) * np.sqrt(squares)


def check_forward(inputs, results, shape, epilogue, rounded=as_they_are, factor=4):
    """y within the error rule; the code byte where no two candidates are closer than rounding.

    Products of other numbers than float32 have their operands ``rounded``, and the rule another ``factor``.
    """
    z, bound = exact_sums(shape, rounded, factor)
    y, code = results
    if epilogue != "pool":
        assert code is None
        return assert_bounded(y, z if epilogue == "plain" else np.maximum(z, 0), bound)
    rectified, margin = windows(np.maximum(z, 0), -np.inf), windows(bound, 0.0)
    largest = rectified.max(axis=0)
    worst = assert_bounded(y, largest, margin.max(axis=0))
    for corner in range(4):
        won = (code >> corner & 1).astype(bool)
        sure = rectified[corner] > 2 * margin.max(axis=0)  # that it is > 0
        others = np.delete(rectified, corner, axis=0).max(axis=0)
        wins = sure & (rectified[corner] - others > 2 * margin.max(axis=0))
        loses = (rectified[corner] == -np.inf) | (largest - rectified[corner] > 2 * margin.max(axis=0))
        loses |= windows(z, -1.0)[corner] < -margin[corner]
        assert won[wins].all(), f"position {corner} is the largest and not in the code"
        assert not won[loses].any(), f"position {corner} is in the code and not the largest"
    assert ((code == 0) == (y == 0)).all()
    assert (code < 16).all()
    return worst


def check_exact(inputs, results, epilogue):
    expected = oracle.forward_oracle(*wide(inputs).values(), **flags(epilogue))
    for got, exact in zip(results, expected, strict=True):
        assert (got is None) == (exact is None)
        if got is not None:
            np.testing.assert_array_equal(got, exact)
    return 0.0


def nans():
    inputs = layer((2, 6, 6, 20, 3, 3, 4), small_integers)
    inputs["x"][1, 2, 3, 7] = np.nan
    inputs["bias"][2, 1, 1] = np.nan
    return inputs


def forward_cases():
    for version in LADDERS["forward"].versions:
        kernel = f"conv2d_forward_{version}"
        for shape, epilogue in [*SHAPES, *(LONG[:1] if version in ("naive", "long") else [])]:
            if version == "vectorised" and not aligned(shape, "forward"):
                continue
            yield Case(
                kernel,
                f"{'x'.join(map(str, shape))}-{epilogue}",
                partial(layer, shape),
                partial(conv2d.convolve, epilogue=epilogue, version=version),
                partial(check_forward, shape=shape, epilogue=epilogue),
                quick=(shape, epilogue) in QUICK,
                shared=version != "naive",
            )
        for epilogue in ("plain", "relu", "pool"):
            yield Case(
                kernel,
                f"ties-{epilogue}",
                partial(layer, (2, 7, 8, 8, 3, 3, 8), small_integers),
                partial(conv2d.convolve, epilogue=epilogue, version=version),
                partial(check_exact, epilogue=epilogue),
            )
        yield Case(kernel, "nan", nans, partial(conv2d.convolve, epilogue="pool", version=version),
                   partial(check_exact, epilogue="pool"))  # fmt: skip


@cache
def backward_arrays(shape, epilogue, draw=normal):
    """What a backward pass is given: y and code are the oracle's, of a forward pass."""
    inputs = layer(shape, draw)
    y, code = oracle.forward_oracle(*wide(inputs).values(), **flags(epilogue))
    saved = {"plain": None, "relu": y.astype(np.float32), "pool": code}[epilogue]
    return {**inputs, "gradient": draw(*y.shape, seed=3), "saved": saved}


def gradients(shape, epilogue, arrays, draw=normal):
    available = backward_arrays(shape, epilogue, draw)
    return {name: available[name] for name in (*arrays, "gradient", "saved") if available[name] is not None}


def exact_backward(x, weight, gradient, saved, epilogue):
    y, code = (None, saved) if epilogue == "pool" else (saved, None)
    return oracle.backward_oracle(x, weight, y, code, gradient, activate=epilogue != "plain")


@cache
def exact_gradients(shape, epilogue, rounded):
    """The three gradients in float64, of rounded operands, and their sums of squared products."""
    exact = {name: wide({name: a})[name] for name, a in backward_arrays(shape, epilogue).items() if a is not None}
    exact.update((name, rounded(exact[name])) for name in ("x", "weight", "gradient"))
    saved = exact.get("saved")
    return tuple(
        exact_backward(exact["x"] ** power, exact["weight"] ** power, exact["gradient"] ** power, saved, epilogue)
        for power in (1, 2)
    )


def check_gradient(inputs, results, shape, epilogue, which, rounded=as_they_are, factor=4):
    references, squares = exact_gradients(shape, epilogue, rounded)
    _, H, W, N, R, S, K = shape
    terms = (K * R * S, (H - R + 1) * (W - S + 1) * N, N)[which]
    return assert_within_error_rule(results[0], references[which], squares[which], terms, factor)


def nan_gradients(shape, epilogue, arrays):
    """Small integers, with NaN in the gradient and in y: NaN of y lets the gradient pass, a code of 0 stops NaN."""
    inputs = {name: a.copy() for name, a in gradients(shape, epilogue, arrays, small_integers).items()}
    inputs["gradient"][0].flat[::37] = np.nan
    if epilogue == "relu":
        inputs["saved"][1].flat[::23] = np.nan
    return inputs


def check_nan_gradient(inputs, results, shape, epilogue, which):
    """What the pass does not read is replaced by zeros in the oracle, which needs all arrays."""
    C, H, W, N, R, S, K = shape
    exact = {"x": np.zeros((C, H, W, N)), "weight": np.zeros((C, R, S, K)), "saved": None, **wide(inputs)}
    np.testing.assert_array_equal(results[0], exact_backward(**exact, epilogue=epilogue)[which])
    assert np.isnan(results[0]).any()
    assert not np.isnan(results[0]).all()
    return 0.0


def backward_cases():
    passes = [
        ("data", conv2d.backward_data, LADDERS["backward_data"].versions, ("weight",)),
        ("weights", conv2d.backward_weights, LADDERS["backward_weights"].versions, ("x",)),
        ("bias", conv2d.backward_bias, conv2d_backward_bias.VERSIONS, ()),
    ]
    for which, (name, binding, versions, arrays) in enumerate(passes):
        for version in versions:
            extra = LONG[1:] if name == "data" and version in ("naive", "long") else []
            extra += [MANY_IMAGES] if name != "data" else []
            kernel = f"conv2d_backward_{name}_{version}"
            shared = name != "bias" and version != "naive"
            for shape, epilogue in [*SHAPES, *extra]:
                if version == "vectorised" and not aligned(shape, name):
                    continue
                yield Case(
                    kernel,
                    f"{'x'.join(map(str, shape))}-{epilogue}",
                    partial(gradients, shape, epilogue, arrays),
                    partial(_call, binding, epilogue=epilogue, sizes=Conv2dSizes(*shape), version=version),
                    partial(check_gradient, shape=shape, epilogue=epilogue, which=which),
                    quick=(shape, epilogue) in QUICK,
                    shared=shared,
                )
            if name == "weights":
                shape, epilogue = MANY_STEPS
                yield Case(
                    kernel,
                    "one-part",
                    partial(gradients, shape, epilogue, arrays),
                    partial(_call_in_one_part, epilogue=epilogue, sizes=Conv2dSizes(*shape), version=version),
                    partial(check_gradient, shape=shape, epilogue=epilogue, which=which),
                    quick=shared,
                    shared=shared,
                )
            for epilogue in ("plain", "relu", "pool"):
                shape = (3, 6, 5, 12, 3, 2, 8)
                yield Case(
                    kernel,
                    f"nan-{epilogue}",
                    partial(nan_gradients, shape, epilogue, arrays),
                    partial(_call, binding, epilogue=epilogue, sizes=Conv2dSizes(*shape), version=version),
                    partial(check_nan_gradient, shape=shape, epilogue=epilogue, which=which),
                )


def _call(binding, *, saved=None, **arguments):
    return binding(saved=saved, **arguments)


def _call_in_one_part(**arguments):
    """Small sizes are cut into parts of one step, which shows nothing of how one step follows another."""
    with mock.patch.object(conv2d_backward_weights, "_BLOCKS", 1):
        return conv2d.backward_weights(**arguments)


def sum_cases():
    """The second kernel of the gradient of the weights, by itself."""
    for parts, size in ((2, 5), (7, 300), (4100, 3)):
        yield Case(
            "conv2d_backward_weights_sum",
            f"{parts}x{size}",
            lambda parts=parts, size=size: {"partial": normal(parts, size)},
            lambda partial: conv2d_backward_weights.sum_parts(backend_of("conv2d", partial=partial), partial),
            lambda inputs, results: assert_within_error_rule(
                results[0],
                inputs["partial"].astype(np.float64).sum(axis=0),
                (inputs["partial"].astype(np.float64) ** 2).sum(axis=0),
                len(inputs["partial"]),
            ),
            quick=size == 300,
        )


def cases():
    yield from forward_cases()
    yield from backward_cases()
    yield from sum_cases()
