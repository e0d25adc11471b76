"""Cases of kernels/nesterov.cu."""

from functools import partial

import numpy as np
from harness import Case, assert_same_bits
from numerics import assert_within_error_rule

from gzkern.cpu import nesterov as oracle
from gzkern.cuda import nesterov

SHAPES = [(1,), (4,), (5, 3), (33, 4), (1027,), (16, 65), (0, 4)]
LR, MOMENTUM = 0.04, 0.9


def inputs(shape, first_bad):
    rng = np.random.default_rng(shape)
    arrays = {name: rng.standard_normal(shape, np.float32) for name in ("weight", "velocity", "gradient")}
    return {**arrays, "first_bad": np.array([first_bad], np.int64)}


def check(inputs, results):
    """By the error rule, with the two terms of v and the three of w.

    Where terms cancel, the rounding of one of them is many ulp of the sum, so that 2 ulp do not hold. To first order
    v is off by at most u·(|μv| + 2|ηg|) and w by u·(|w| + 3|μv| + 4|ηg|), which the rule's bounds are above.
    """
    _, weight, velocity = results
    lr, momentum = (np.float64(np.float32(value)) for value in (LR, MOMENTUM))
    w, v, g = (inputs[name].astype(np.float64) for name in ("weight", "velocity", "gradient"))
    terms = [(momentum * v) ** 2, (lr * g) ** 2]
    old_weight = w.copy()
    oracle.update_oracle(w, v, g, lr, momentum)
    error = assert_within_error_rule(velocity, v, sum(terms), 2)
    terms = [old_weight**2, (momentum * v) ** 2, (lr * g) ** 2]
    return max(error, assert_within_error_rule(weight, w, sum(terms), 3))


def check_unchanged(inputs, results):
    for got, name in zip(results[1:], ("weight", "velocity"), strict=True):
        assert_same_bits(got, inputs[name], name)
    return 0.0


def cases():
    for shape in SHAPES:
        for version in ("naive",) if np.prod(shape) % 4 else ("naive", "vectorised"):
            for name, first_bad, proof in (("update", -1, check), ("stopped", 0, check_unchanged)):
                yield Case(
                    kernel=f"nesterov_{version}",
                    label=f"{'x'.join(map(str, shape))}-{name}",
                    inputs=partial(inputs, shape, first_bad),
                    call=partial(nesterov.step, rate=LR, momentum=MOMENTUM, version=version),
                    check=proof,
                    mutates=("weight", "velocity"),
                    quick=shape in ((5, 3), (33, 4)),
                )
    for count in (1, 2, 6):
        for name, first_bad, proof in (("update", -1, check), ("stopped", 0, check_unchanged)):
            yield Case(
                kernel="nesterov_several",
                label=f"{count}-{name}",
                inputs=partial(several_inputs, count, first_bad),
                call=several,
                check=partial(check_several, proof),
                mutates=tuple(f"{name}{i}" for i in range(count) for name in ("weight", "velocity")),
                quick=count == 2,
            )


def several_inputs(count, first_bad):
    arrays = {f"{name}{i}": array for i in range(count) for name, array in inputs(SHAPES[i], first_bad).items()}
    first = arrays["first_bad0"]
    return {name: array for name, array in arrays.items() if "first_bad" not in name} | {"first_bad": first}


def several(first_bad, **arrays):
    names = ("weight", "velocity", "gradient")
    groups = [tuple(arrays[f"{name}{i}"] for name in names) for i in range(len(arrays) // 3)]
    nesterov.step_several(groups, LR, MOMENTUM, first_bad)


def check_several(proof, inputs, results):
    """Each by itself: results are None, then weight and velocity of each."""
    count = len(results) // 2
    return max(
        proof(
            {name: inputs[f"{name}{i}"] for name in ("weight", "velocity", "gradient")},
            (None, *results[1 + 2 * i :][:2]),
        )
        for i in range(count)
    )
