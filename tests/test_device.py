"""Choosing a device, precision and threads."""

import pytest

from gzkern.device import require_precision, select, set_threads
from gzkern.errors import InputError


def test_choice_by_argument_then_environment_then_auto(monkeypatch):
    monkeypatch.delenv("GZKERN_DEVICE", raising=False)
    assert select().name == select("auto").name == select("cpu").name == "cpu"
    monkeypatch.setenv("GZKERN_DEVICE", "quantum")
    with pytest.raises(InputError, match="device 'quantum': expected one of auto, cpu, cuda, emulated"):
        select()
    assert select("cpu").name == "cpu"
    device = select("cpu")
    assert select(device) is device


@pytest.mark.parametrize("name", ["cuda", "emulated"])
def test_a_device_that_is_not_there_says_so(name):
    with pytest.raises(InputError, match="use --device cpu"):
        select(name)


def test_precision():
    require_precision(select("cpu"), "fp32")
    with pytest.raises(InputError, match="computes in fp32 alone"):
        require_precision(select("cpu"), "tf32")


def test_threads():
    everything = set_threads(None)
    try:
        assert set_threads(1) == 1
        for count in (0, -3, 10_000):
            with pytest.raises(InputError, match=f"--threads {count}: expected 1 to"):
                set_threads(count)
    finally:
        set_threads(everything)


def test_an_operation_is_a_module_of_the_device():
    assert select("cpu").conv2d.__name__ == "gzkern.cpu.conv2d"
