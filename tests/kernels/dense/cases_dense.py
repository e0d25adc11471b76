"""Cases of kernels/dense_*.cu."""

from functools import partial

import numpy as np
from harness import Case, assert_same_bits
from numerics import assert_within_error_rule, normal, wide

from gzkern.core.dropout_mask import DropoutMask
from gzkern.core.fused_update import FusedUpdate
from gzkern.cpu import dense as oracle
from gzkern.cpu import dropout, maxout, relu
from gzkern.cuda.dense import backward as dense_backward
from gzkern.cuda.dense import forward as dense_forward

# I, O, B and the activation: within a tile and one beyond it along each extent, tails, several parts, empty sums.
QUICK = [((7, 6, 3), "maxout"), ((20, 12, 16), "relu"), ((133, 3, 2), "linear")]
SHAPES = [
    *QUICK,
    ((1, 1, 1), "linear"),
    ((257, 10, 17), "maxout"),
    ((5, 258, 16), "maxout"),
    ((65, 132, 33), "relu"),
    ((130, 260, 15), "linear"),
    ((4200, 4, 1), "maxout"),
    ((3, 4200, 2), "relu"),
    ((2, 4, 4200), "maxout"),
    ((24, 8, 0), "maxout"),
    ((0, 6, 3), "linear"),
    ((6, 0, 3), "relu"),
]
VERSIONS = ("naive", "tiled", "vectorised")
SCALES = {"linear": 1.0, "relu": 1 / 0.7, "maxout": 2.0}  # of the dropout after each activation
RATE, MOMENTUM = 0.04, 0.9


def versions(outputs):
    return VERSIONS[:2] if outputs % 4 else VERSIONS


def eighths(*shape):
    """Numbers whose sums and products are exact, few enough that pieces tie."""
    return np.random.default_rng(shape).integers(-4, 5, shape).astype(np.float32) / 8


def squares(inputs):
    return {name: a if name in ("y", "code") else a**2 for name, a in wide(inputs).items()}


def layer(shape):
    inputs, outputs, B = shape
    return {"x": normal(inputs, B), "weight": normal(inputs, outputs)}


def check_product(inputs, results):
    got = results[0].astype(np.float64).sum(axis=0).T
    exact, scale = (a["weight"].T @ a["x"] for a in (wide(inputs), squares(inputs)))
    return assert_within_error_rule(got, exact, scale, len(inputs["x"]))


def sums(parts, outputs, B):
    """Partial sums with NaN in some."""
    partial_sums, bias = eighths(parts, B, outputs), eighths(outputs)
    partial_sums[-1, :, 1::7] = np.nan
    return {"partial": partial_sums, "bias": bias}


ACTIVATIONS = {
    "linear": lambda z: (z, None),
    "relu": lambda z: (relu.forward(z), None),
    "maxout": maxout.forward,
}


def check_activated(inputs, results, activation):
    expected = ACTIVATIONS[activation](inputs["partial"].sum(axis=0).T + inputs["bias"][:, None])
    return assert_equal(results, expected)


def mask(step):
    return DropoutMask(0.4, 2**64 - 7, step, 3)


def check_dropped(inputs, results, activation):
    """Equal, to the sign of zero, to dropout by itself of what the activation gives; no code where it drops."""
    step = int(inputs["step"][0])
    z = inputs["partial"].sum(axis=0).T + inputs["bias"][:, None]
    y, code = ACTIVATIONS[activation](z)
    expected = dropout.forward_oracle(y, mask(step))
    np.testing.assert_array_equal(results[0], expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(results[0])[number], np.signbit(expected)[number])
    if code is not None:
        saved = dropout.multiplier(np.ones_like(y), mask(step)) > 0
        np.testing.assert_array_equal(results[1], code * saved)
    return 0.0


def check_whole(inputs, results, activation):
    return assert_equal(results, oracle.forward(**wide(inputs), activation=activation))


def assert_equal(results, expected):
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, want)
    return 0.0


def backward_inputs(shape, activation, *names):
    """The layer's arrays of these names, the gradient of y, and what the forward pass kept."""
    _, outputs, B = shape
    units = outputs // 2 if activation == "maxout" else outputs
    arrays = {name: array for name, array in layer(shape).items() if name in names}
    arrays["gradient"] = normal(units, B)
    if activation == "relu":
        y = np.maximum(normal(units, B)[::-1], 0)
        y[::5] = np.nan  # not 0 or less: its gradient passes
        arrays["y"] = np.ascontiguousarray(y)
    elif activation == "maxout":
        arrays["code"] = np.random.default_rng(shape).integers(0, 4, (units, B), np.uint8)
    return arrays


def kept_by(activation):
    return {"relu": "y", "maxout": "code"}.get(activation)


def call_backward(function, activation, **arrays):
    saved = arrays.pop(kept_by(activation), None)
    return function(**arrays, saved=saved, activation=activation, scale=SCALES[activation])


def expected_gradient(inputs, shape, activation, which):
    """The oracle's result number ``which`` (dx, dweight, dbias), and the sums of its squared terms."""
    scaled = {**inputs, "gradient": inputs["gradient"] * np.float32(SCALES[activation])}
    for arrays in (wide(scaled), squares(scaled)):
        x, weight = (arrays.get(name, array * 0) for name, array in wide(layer(shape)).items())
        y, code = arrays.get("y"), arrays.get("code")
        yield oracle.backward(x, weight, y, code, arrays["gradient"], activation=activation)[which]


def check_backward(inputs, results, shape, activation, which):
    terms = (shape[1], shape[2], shape[2])[which]
    return assert_within_error_rule(results[0], *expected_gradient(inputs, shape, activation, which), terms)


def update_inputs(shape, activation, first_bad):
    arrays = backward_inputs(shape, activation, "x", "weight")
    velocity = normal(*arrays["weight"].shape, seed=1)
    scalars = {"rate": np.full(1, RATE, np.float32), "first_bad": np.full(1, first_bad, np.int64)}
    return {**arrays, "velocity": velocity, **scalars}


def call_update(function, activation, velocity, rate, first_bad, **arrays):
    dx = call_backward(function, activation, update=FusedUpdate(velocity, rate, MOMENTUM, first_bad), **arrays)
    return () if dx is None else (dx,)


def check_update(inputs, results, shape, activation):
    """By the error rule, weight and velocity being sums of the terms of the gradient and of what they were."""
    *dx, weight, velocity = results
    error = check_backward(inputs, dx, shape, activation, 0) if dx else 0.0
    if inputs["first_bad"][0] >= 0:
        assert_same_bits(weight, inputs["weight"], "weight")
        assert_same_bits(velocity, inputs["velocity"], "velocity")
        return error
    rate, momentum = (np.float64(np.float32(value)) for value in (RATE, MOMENTUM))
    w, v = (inputs[name].astype(np.float64) for name in ("weight", "velocity"))
    g, squared = expected_gradient(inputs, shape, activation, 1)
    moved = momentum * v - rate * g
    terms = (momentum * v) ** 2 + rate**2 * squared
    error = max(error, assert_within_error_rule(velocity, moved, terms, shape[2] + 1))
    terms = w**2 + (momentum**2 * v) ** 2 + ((1 + momentum) * rate) ** 2 * squared
    return max(error, assert_within_error_rule(weight, w + momentum * moved - rate * g, terms, shape[2] + 2))


def backward_case(kernel, function, shape, activation, which, names, **how):
    return Case(
        kernel=kernel,
        label=f"{'x'.join(map(str, shape))}-{activation}",
        inputs=partial(backward_inputs, shape, activation, *names),
        call=partial(call_backward, function, activation),
        check=partial(check_backward, shape=shape, activation=activation, which=which),
        **how,
    )


def update_cases():
    longer = [((515, 4200, 2), "maxout"), ((40, 132, 1), "relu"), ((3, 8, 4000), "maxout")]
    for shape, activation in [*SHAPES, *longer]:
        inputs, outputs, B = shape
        for data in (False, True):
            if (dense_backward.MOST_COLUMNS if data else 4096) < B:
                continue
            kind, function = (
                ("update_data", dense_backward.backward_update_data)
                if data
                else ("update", dense_backward.backward_update)
            )
            for version in versions(outputs):
                for name, first_bad in (("moved", -1), ("stopped", 7)):
                    if first_bad >= 0 and inputs * outputs > 1000:
                        continue
                    yield Case(
                        kernel=f"dense_backward_{kind}_{version}",
                        label=f"{'x'.join(map(str, shape))}-{activation}-{name}",
                        inputs=partial(update_inputs, shape, activation, first_bad),
                        call=partial(call_update, partial(function, version=version), activation),
                        check=partial(check_update, shape=shape, activation=activation),
                        mutates=("weight", "velocity"),
                        quick=(shape, activation) in QUICK,
                        shared=version != "naive",
                    )


def pass_cases():
    for shape, activation in SHAPES:
        quick = (shape, activation) in QUICK
        for version in versions(shape[1]):
            how = {"quick": quick, "shared": version != "naive"}
            yield Case(
                kernel=f"dense_forward_{version}",
                label="x".join(map(str, shape)),
                inputs=partial(layer, shape),
                call=partial(dense_forward.product, version=version),
                check=check_product,
                **how,
            )
            for pass_, which, names in (("data", 0, ["weight"]), ("weights", 1, ["x"])):
                function = partial(getattr(dense_backward, f"backward_{pass_}"), version=version)
                kernel = f"dense_backward_{pass_}_{version}"
                yield backward_case(kernel, function, shape, activation, which, names, **how)
        for version in ("naive", "warp"):
            function = partial(dense_backward.backward_bias, version=version)
            yield backward_case(f"dense_backward_bias_{version}", function, shape, activation, 2, [], quick=quick)


def sum_cases():
    for shape in ((9, 300, 5), (2, 1100, 3)):  # more terms than one part has
        quick = shape[1] == 300
        how = {"quick": quick, "shared": quick}
        data, weights = shape, (shape[0], shape[2], shape[1])
        yield backward_case(
            "dense_backward_data_sum", dense_backward.backward_data, data, "linear", 0, ["weight"], **how
        )
        yield backward_case(
            "dense_backward_weights_sum", dense_backward.backward_weights, weights, "linear", 1, ["x"], **how
        )


def activation_cases():
    for activation in ACTIVATIONS:
        # One part, fewer than groups of threads, more, and more than they load at once.
        for parts, outputs, B in ((1, 2, 1), (3, 38, 5), (11, 36, 16), (2, 300, 3), (37, 6, 23), (2, 8, 0)):
            yield Case(
                kernel=f"dense_forward_{activation}",
                label=f"{parts}x{outputs}x{B}",
                inputs=partial(sums, parts, outputs, B),
                call=partial(dense_forward.activate, activation=activation),
                check=partial(check_activated, activation=activation),
                quick=outputs == 38,
                shared=outputs == 38,
            )
            if activation != "linear":
                yield Case(
                    kernel=f"dense_forward_{activation}_dropout",
                    label=f"{parts}x{outputs}x{B}",
                    inputs=lambda shape=(parts, outputs, B): {
                        **sums(*shape),
                        "step": np.full(1, 2**33 + shape[1], np.int64),
                    },
                    call=lambda partial, bias, step, activation=activation: dense_forward.activate(
                        partial, bias, activation, mask(step)
                    ),
                    check=partial(check_dropped, activation=activation),
                    quick=outputs in (36, 38),
                    shared=outputs == 38,
                )


def whole_cases():
    for activation in ACTIVATIONS:
        for inputs, outputs, B in ((300, 74, 17), (140, 36, 16)):
            yield Case(
                kernel=f"dense_forward_{activation}",
                label=f"whole-{inputs}x{outputs}x{B}",
                inputs=lambda shape=(inputs, outputs, B): {
                    "x": eighths(shape[0], shape[2]),
                    "weight": eighths(shape[0], shape[1]),
                    "bias": eighths(shape[1]),
                },
                call=partial(dense_forward.forward, activation=activation),
                check=partial(check_whole, activation=activation),
                shared=True,
            )


def cases():
    yield from update_cases()
    yield from pass_cases()
    yield from sum_cases()
    yield from activation_cases()
    yield from whole_cases()
