"""A recorded short training, reproduced on every device; a gradient left out makes it fail."""

import golden_run
import numpy as np
import pytest

PARAMETERS = [
    f"{layer}.{kind}"
    for layer in ("conv1", "conv2", "conv3", "conv4", "dense1", "dense2", "dense3")
    for kind in ("weight", "bias")
]
FLOAT32 = 1e-4


def assert_golden(record, tolerance):
    difference, what = golden_run.largest_difference(record, golden_run.expected())
    assert difference <= tolerance, f"{what} is off by {difference:.2e}"


def test_float64_on_the_oracles():
    assert_golden(golden_run.run("cpu", np.float64), 1e-12)


def test_float32_on_the_cpu():
    assert_golden(golden_run.run("cpu"), FLOAT32)


@pytest.mark.gxx
def test_emulated_kernels():
    assert_golden(golden_run.run("emulated"), FLOAT32)


@pytest.mark.gpu
def test_kernels_on_a_gpu():
    assert_golden(golden_run.run("cuda"), FLOAT32)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_gradient_left_out_is_noticed(name):
    with pytest.raises(AssertionError, match="is off by"):
        assert_golden(golden_run.run("cpu", zeroed=name), FLOAT32)


def test_the_recorded_parameters_are_all_of_the_network():
    for arrays in golden_run.expected()["parameters"].values():
        assert sorted(arrays) == sorted(PARAMETERS)
