"""The check on a GPU, rehearsed on the fake one with each way in which a GPU fails: what is lost, and what goes on."""

import json
import sys
from dataclasses import replace

import pytest
from paths import TESTS, python_path

from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check.plan import Item, Stage, stages

pytestmark = pytest.mark.gxx
LIMIT = 20.0  # seconds of an item; without a fault it takes three

LAUNCH = """
import numpy as np
from gzkern.cuda import maxout, relu
from gzkern.runtime import cuda_backend
backend = cuda_backend.backend()
x = backend.asarray(np.arange(1, 9, dtype=np.float32).reshape(4, 2))
y = {operation}.forward(x)
values = backend.asnumpy(y[0] if isinstance(y, tuple) else y)
assert np.isfinite(values).all(), "the result is not finite"
"""


@pytest.fixture
def rehearse(tmp_path, monkeypatch):
    """Run items on a GPU with a fault; what became of each by name, and the summary."""

    def rehearse(fault, *items, seconds=300.0):
        folders = python_path(TESTS / "fakes" / "site")
        for name, value in {"PYTHONPATH": folders, "FAKE_GPU": "H100", "FAKE_GPU_FAULT": fault}.items():
            monkeypatch.setenv(name, value)
        gpu_check.check((Stage("all", float("inf"), False, items),), seconds, tmp_path)
        document = json.loads((tmp_path / "gpu_check.json").read_text())
        assert len(list(tmp_path.iterdir())) == 1
        return {item["name"]: item for item in document["items"]}, document["summary"]

    return rehearse


def launching(operation, needs=(), limit=LIMIT):
    return Item(operation, (sys.executable, "-c", LAUNCH.format(operation=operation)), 3, limit, needs=needs)


def assert_only_lost(results, name, status):
    """An item with this status, all others passed, and the next began when it ended."""
    assert {each: result["status"] for each, result in results.items() if result["status"] != "passed"} == {
        name: status
    }
    order = list(results)
    following = results[order[order.index(name) + 1]]
    if "begin" in results[name]:
        end = results[name]["begin"] + results[name]["seconds"]
        assert end - 0.2 <= following["begin"] <= end + 10  # until the GPU has answered


def test_a_hang(rehearse):
    results, summary = rehearse("hang:relu_forward", launching("relu", limit=4), launching("maxout"))
    assert_only_lost(results, "relu", "timed out")
    assert 4 <= results["relu"]["seconds"] < 6
    assert summary[0].startswith("relu: timed out after 4")


def test_a_crash(rehearse):
    results, summary = rehearse("crash:relu_forward", launching("relu"), launching("maxout"))
    assert_only_lost(results, "relu", "crashed")
    assert "Segmentation fault" in results["relu"]["output"]
    assert summary[0].endswith("Fatal Python error: Segmentation fault")


FAULTS = {
    "nan:relu_forward": "AssertionError: the result is not finite",
    "illegal:relu_forward": "cudaErrorIllegalAddress: an illegal memory access was encountered",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure(rehearse, fault):
    results, summary = rehearse(fault, launching("relu"), launching("maxout"))
    assert_only_lost(results, "relu", "failed")
    assert summary[0].endswith(FAULTS[fault]), summary


def test_memory_that_does_not_suffice(rehearse):
    greedy = Item(
        "greedy", (sys.executable, "-c", LAUNCH.format(operation="relu") + "backend.empty((2**24,))"), 3, LIMIT
    )
    results, summary = rehearse(f"memory:{2**20}", greedy, launching("maxout"))
    assert_only_lost(results, "greedy", "failed")
    assert "does not fit" in summary[0]


def test_a_library_that_is_missing(rehearse):
    results, summary = rehearse("", launching("relu", needs=("no_such_library",)), launching("maxout"))
    assert_only_lost(results, "relu", "left out")
    assert summary == ["left out: relu (not installed: no_such_library)"]


def test_a_gpu_that_answers_nobody(rehearse):
    """After a crash the GPU is asked for a copy there and back; without an answer, nothing more is begun."""
    broken = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    crashing = Item("crashing", (sys.executable, "-c", broken), 3, LIMIT)
    results, _ = rehearse("memory:1", crashing, launching("maxout"))
    assert {name: result["status"] for name, result in results.items()} == {
        "crashing": "crashed", "maxout": "the GPU is lost",
    }  # fmt: skip


def small_item(name, **changes):
    return next(replace(item, **changes) for stage in stages(small=True) for item in stage.items if item.name == name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("hang:dense_backward_update_data_vectorised", "timed out"),
        ("crash:dense_backward_update_data_vectorised", "failed"),  # the engine's process dies, not the benchmark's
        ("nan:dense_backward_update_data_vectorised", "failed"),
        ("illegal:dense_backward_update_data_vectorised", "failed"),
    ],
)
def test_the_training_step_fails_and_prediction_is_measured(rehearse, fault, status):
    """The real items, at small sizes: a kernel of the backward pass breaks, which no prediction launches."""
    step, prediction = small_item("step", limit=300), small_item("prediction", limit=300)
    if status == "timed out":
        step = replace(step, limit=60)
    results, summary = rehearse(fault, step, prediction, seconds=900)
    assert_only_lost(results, "step", status)
    assert any(row["ms"] for row in results["prediction"]["results"]["rows"])
    assert summary[0].startswith("step: ")
