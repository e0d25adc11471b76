"""Choosing a device, precision and threads."""

import pytest

from gzkern import device
from gzkern.device import kernel_device, require_precision, select, set_threads
from gzkern.errors import InputError
from gzkern.runtime import cuda_backend
from gzkern.runtime import gpu as cuda
from gzkern.runtime.backend import Limits
from gzkern.runtime.capture import ShapeOnlyBackend


def test_choice_by_argument_then_environment_then_auto(monkeypatch):
    monkeypatch.delenv("GZKERN_DEVICE", raising=False)
    assert select().name == select("auto").name == select("cpu").name == "cpu"
    monkeypatch.setenv("GZKERN_DEVICE", "quantum")
    with pytest.raises(InputError, match="device 'quantum': expected one of auto, cpu, cuda, emulated"):
        select()
    assert select("cpu").name == "cpu"
    chosen = select("cpu")
    assert select(chosen) is chosen


def test_a_device_that_is_not_there_says_so(monkeypatch):
    device._device.cache_clear()
    monkeypatch.setattr(cuda, "missing", lambda: "no GPU today")
    with pytest.raises(InputError, match="device 'cuda': no GPU today"):
        select("cuda")


@pytest.mark.parametrize(("reason", "name"), [("no GPU today", "cpu"), (None, "cuda")])
def test_auto_is_a_gpu_where_one_answers_and_says_which_once(reason, name, monkeypatch, capsys):
    monkeypatch.setattr(cuda, "missing", lambda: reason)
    monkeypatch.setattr(cuda, "notes", list)
    monkeypatch.setattr(cuda_backend, "backend", lambda: ShapeOnlyBackend(Limits(90, 132, 1)))
    for function in (device._auto, device._device):
        function.cache_clear()
    assert select("auto").name == select("auto").name == name
    assert capsys.readouterr().err == f"gzkern: device {name}{f' ({reason})' if reason else ''}\n"
    for function in (device._auto, device._device):
        function.cache_clear()


def test_precision():
    require_precision(select("cpu"), "fp32")
    with pytest.raises(InputError, match="computes in fp32 alone"):
        require_precision(select("cpu"), "tf32")


@pytest.mark.parametrize("name", ["cpu", pytest.param("emulated", marks=pytest.mark.gxx)])
def test_threads(name):
    chosen = select(name)
    everything = set_threads(chosen, None)
    try:
        assert set_threads(chosen, 1) == 1
        for count in (0, -3, 10_000):
            with pytest.raises(InputError, match=f"--threads {count}: expected 1 to"):
                set_threads(chosen, count)
    finally:
        set_threads(chosen, everything)


def test_the_table_of_a_device_holds_its_own_functions():
    assert select("cpu").operations.conv2d.forward.__module__ == "gzkern.cpu.conv2d"


def test_the_cpu_runs_no_kernels():
    with pytest.raises(InputError, match="device 'cpu' runs no kernels"):
        kernel_device(select("cpu"))
