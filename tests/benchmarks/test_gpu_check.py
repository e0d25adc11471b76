"""The check on a GPU, its machinery: the plan's clock, lost items, what is kept, the summary, the files taken apart."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import pairwise

import pytest

import gzkern.runtime.gpu
from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check import summary as words
from benchmarks.gpu_check.plan import SANITIZERS, Item, Stage, stages
from benchmarks.gpu_check.processes import ROOT, Processes
from benchmarks.gpu_check.schedule import ANSWER, Simulation, carry_out
from benchmarks.gpu_check.summary import summary
from benchmarks.gpu_check.unpack import FILES
from gzkern.errors import InputError

NINE = 9 * 60
PLAN = stages()
NAMES = [item.name for stage in PLAN for item in stage.items]


def simulate(plan=PLAN, seconds=NINE, done=(), runner=None, **taking):
    """What became of each item by the predictions, by name, in the order in which they ended."""
    results = []
    carry_out(plan, seconds, runner or Simulation(taking), done, results.append)
    return {result["name"]: result for result in results}


# The plan


def test_the_predicted_clock_fits_nine_minutes():
    results = simulate()
    assert sorted(results) == sorted(NAMES)
    assert {result["status"] for result in results.values()} == {"passed"}
    ends = {name: max(r["begin"] + r["seconds"] for r in results.values() if r["stage"] == name) for name in STAGES}
    assert ends["compile"] <= 60
    assert ends["correct"] - ends["compile"] <= 120
    assert ends["speed"] - ends["correct"] <= 180
    assert ends["rest"] <= NINE


STAGES = ("compile", "correct", "speed", "rest")


def test_if_everything_hangs_each_stage_still_ends_in_time():
    results = simulate(**dict.fromkeys(NAMES, float("inf")))
    assert {result["status"] for result in results.values()} <= {"timed out", "no time left"}
    begins = {name: min(r["begin"] for r in results.values() if r["stage"] == name and "begin" in r) for name in STAGES}
    assert begins == {"compile": 0, "correct": 65, "speed": 185, "rest": 355}
    assert max(r["begin"] + r["seconds"] for r in results.values() if "begin" in r) <= NINE


@pytest.mark.parametrize("hanging", NAMES)
def test_a_hang_loses_one_item(hanging):
    before, after = simulate(), simulate(**{hanging: float("inf")})
    assert [name for name, result in after.items() if result["status"] == "timed out"] == [hanging]
    lost = after[hanging]
    assert lost["seconds"] == lost["limit"]
    following = [name for name in after if name != hanging and after[name]["begin"] > before[hanging]["begin"]]
    assert all(after[name]["status"] == "passed" for name in following)
    if lost["stage"] in ("speed", "rest") and following:
        assert after[following[0]]["begin"] == lost["begin"] + lost["limit"] + ANSWER


def test_the_stage_of_speed_gives_up_its_last_item_first():
    results = simulate(step=float("inf"), prediction=float("inf"), step_against_torch=float("inf"))
    assert results["fp32_against_torch_compile"]["status"] == "no time left"
    assert results["conv"]["status"] == "passed"


def test_more_minutes_go_to_the_rest():
    short, long = simulate(), simulate(seconds=30 * 60)
    assert all(long[name]["begin"] == short[name]["begin"] for name in ("fragments", "step", "conv"))
    assert long["conv"]["limit"] > 4 * short["conv"]["limit"]


def test_what_was_done_is_passed_over():
    done = NAMES[: NAMES.index("step")]
    results = simulate(done=done)
    assert list(results) == [name for name in NAMES if name not in done]
    assert results["step"]["begin"] == 0


def test_a_lost_gpu_is_not_asked_again():
    class Lost(Simulation):
        def gpu_answers(self):
            return False

    results = simulate(runner=Lost({"step": float("inf")}))
    assert {results[name]["status"] for name in ("prediction", "conv", "kernels")} == {"the GPU is lost"}


def test_commands_name_what_is_there():
    names = [item.name for stage in stages() for item in stage.items]
    assert len(set(names)) == len(names)
    assert names[-4:] == [f"sanitizer_{tool}" for tool in SANITIZERS]
    for stage in (*stages(), *stages(small=True)):
        for item in stage.items:
            command = item.arguments(100, ROOT / "result.json")
            assert not [argument for argument in command if "{" in argument]
            files = [argument for argument in command if argument.startswith("tests/")]
            assert all((ROOT / file).exists() for file in files), files
            modules = [each for before, each in pairwise(command) if before == "-m" and each != "gpu"]
            assert all(find_spec(module) for module in modules), modules
    assert {name for found in FILES.values() for name in found} <= set(names)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("conv", "--minutes", "1.333"), ("kernels", "--stop-after", "80"), ("sanitizer_memcheck", "--stop-after", "80")],
)
def test_items_end_themselves_before_their_limit(name, option, value):
    item = next(item for stage in stages() for item in stage.items if item.name == name)
    command = item.arguments(100, ROOT / "result.json")
    assert command[command.index(option) + 1] == value


@pytest.mark.parametrize("small", [False, True])
def test_every_command_is_understood(small, monkeypatch):
    """By the parser of the benchmark that it calls, up to where it would ask for the GPU."""
    from benchmarks import bandwidth, conv, ops, tiles, train_step
    from benchmarks.studies import precision

    parsers = {"bandwidth": bandwidth, "conv": conv, "tiles": tiles, "train_step": train_step}
    parsers["studies.precision"] = precision
    for stage in stages(small):
        for item in stage.items:
            command = item.arguments(100, ROOT / "result.json")
            module = " ".join(command[1:3]).removeprefix("-m benchmarks.")
            if module in parsers:
                parsers[module]._parse(command[3:])
            if module == "ops":
                monkeypatch.setattr(ops, "new_harness", lambda *arguments: pytest.fail(str(arguments)))
                with pytest.raises(pytest.fail.Exception, match="cuda"):
                    ops.main(command[3:])


def test_what_a_bare_machine_lacks_is_named(monkeypatch):
    item = Item("torch", (), 1, 1, needs=("json", "no_such_package", "no-such-program"))
    assert item.missing() == "not installed: no_such_package, no-such-program"


# Processes


def python(name, code, limit=60.0, **options):
    return Item(name, (sys.executable, "-c", code), 1, limit, **options)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the check over some items as if there were a GPU that answers; what became of them by name, and the code."""
    monkeypatch.setattr(gzkern.runtime.gpu, "missing", lambda: None)
    monkeypatch.setattr(Processes, "gpu_answers", lambda self: True)

    def run(*items, minutes=1.0, together=False):
        plan = (Stage("all", float("inf"), together, items),)
        monkeypatch.setattr(gpu_check, "stages", lambda small: plan)
        code = gpu_check.main(["--out", str(tmp_path / "check"), "--minutes", str(minutes)])
        document = json.loads((tmp_path / "check" / "gpu_check.json").read_text())
        return {item["name"]: item for item in document["items"]}, code

    return run


def test_every_item_is_run_and_what_it_said_is_kept(run, capsys):
    results, code = run(
        python("good", "print('all right')"),
        python("bad", "print('x' * 5000 + 'wrong'); raise SystemExit(3)"),
        python("crashing", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
        python("elsewhere", "", needs=("no_such_package",)),
        Item("absent", ("no-such-program",), 1, 60),
    )
    assert code == 1
    assert {name: item["status"] for name, item in results.items()} == {
        "good": "passed", "bad": "failed", "crashing": "crashed", "elsewhere": "left out", "absent": "failed",
    }  # fmt: skip
    assert results["good"]["output"] == "all right\n"
    assert results["bad"]["output"].endswith("wrong\n")
    assert len(results["bad"]["output"]) <= 4000
    assert results["crashing"]["reason"] == "by SIGSEGV"
    assert results["elsewhere"]["reason"] == "not installed: no_such_package"
    assert "- crashing: crashed by SIGSEGV after" in capsys.readouterr().out


def test_a_hang_ends_at_its_limit_and_leaves_no_process(run, tmp_path):
    """The child of the item that hangs ignores signals, and holds what the item's output would go through."""
    child = tmp_path / "child"
    code = (
        "import os, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "process = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], process_group=0)\n"
        f"open({str(child)!r}, 'w').write(str(process.pid)); print('begun'); time.sleep(60)"
    )
    results, _ = run(python("hanging", code, limit=1.5), python("next", "pass"))
    assert results["hanging"]["status"] == "timed out"
    assert results["hanging"]["output"] == "begun\n"
    assert 1.5 <= results["hanging"]["seconds"] < 4
    assert results["next"]["begin"] == pytest.approx(results["hanging"]["begin"] + results["hanging"]["seconds"], abs=1)
    deadline = time.monotonic() + 10
    while _runs(int(child.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_items_of_a_stage_run_at_once(run):
    wait = "import time; time.sleep(0.5)"
    results, code = run(python("a", wait), python("b", wait), python("c", wait), together=True)
    assert code == 0
    assert len({item["begin"] for item in results.values()}) <= 2  # tenths of a second
    assert max(item["begin"] for item in results.values()) < min(item["seconds"] for item in results.values())


def test_a_check_that_is_cut_off_goes_on_with_what_is_left(run, tmp_path):
    count = tmp_path / "count"
    counted = python("first", f"open({str(count)!r}, 'a').write('x')")
    slow = python("slow", "import time; print('begun', flush=True); time.sleep(60)")
    results, code = run(counted, slow, python("last", "pass"), minutes=0.03)
    assert code == 1
    assert [item["status"] for item in results.values()] == ["passed", "timed out", "no time left"]
    results, code = run(counted, python("slow", "pass"), python("last", "pass"))
    assert code == 0
    assert [item["status"] for item in results.values()] == ["passed"] * 3
    assert count.read_text() == "x"  # the first was not run again
    code = gpu_check.main(["--out", str(tmp_path / "check"), "--only", "first"])
    assert count.read_text() == "xx"  # but where it was asked for
    document = json.loads((tmp_path / "check" / "gpu_check.json").read_text())
    assert [item["name"] for item in document["items"]] == ["first", "slow", "last"]
    assert code == 0


@pytest.mark.parametrize(
    "output", ["SKIPPED [3] tests/x.py: --stop-after 8", "2 of 9 cases passed, 7 were not reached"]
)
def test_an_item_that_was_cut_short_is_incomplete_and_run_again(run, output):
    results, code = run(python("short", f"print({output!r})"))
    assert (results["short"]["status"], code) == ("incomplete", 1)
    code = "import json, sys; json.dump({'rows': [{'name': 'x', 'missing': 'no time left'}]}, open(sys.argv[1], 'w'))"
    results, _ = run(Item("short", (sys.executable, "-c", code, "{result}"), 1, 60))
    assert results["short"]["status"] == "incomplete"
    assert run(python("short", "pass"))[0]["short"]["status"] == "passed"


def test_an_item_that_failed_is_run_again(run):
    fails = python("first", "raise SystemExit(1)")
    assert run(fails)[0]["first"]["status"] == "failed"
    assert run(python("first", "pass"))[0]["first"]["status"] == "passed"


def test_results_of_an_item_are_kept(run):
    code = (
        "import json, sys; json.dump({'rows': [{'name': 'copy on the device', 'gb_s': 4300}]}, open(sys.argv[1], 'w'))"
    )
    item = Item("bandwidth", (sys.executable, "-c", code, "{result}"), 1, 60)
    results, _ = run(item, python("half", "print('no results')"))
    assert results["bandwidth"]["results"]["rows"] == [{"name": "copy on the device", "gb_s": 4300}]
    assert results["half"]["results"] is None


def test_an_interrupt_ends_the_items_and_keeps_what_is_known(tmp_path):
    program = (
        "import signal, sys, gzkern.runtime.gpu\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "gzkern.runtime.gpu.missing = lambda: None\n"
        "from benchmarks.gpu_check import __main__ as gpu_check\n"
        "from benchmarks.gpu_check.plan import Item, Stage\n"
        "codes = {'first': '', 'long': 'import time; time.sleep(50)'}\n"
        "items = [Item(name, (sys.executable, '-c', code), 1, 60) for name, code in codes.items()]\n"
        "gpu_check.stages = lambda small: (Stage('all', 99, False, tuple(items)),)\n"
        "try: gpu_check.main(['--out', sys.argv[1]])\n"
        "except KeyboardInterrupt: print('interrupted', flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    for line in process.stdout:
        if "long …" in line:
            break
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert "interrupted" in rest
    assert time.monotonic() - begin < 20
    process.wait()
    items = json.loads((tmp_path / "gpu_check.json").read_text())["items"]
    assert [item["name"] for item in items] == ["first"]


# The command


def test_without_a_gpu_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(gzkern.runtime.gpu, "missing", lambda: "no GPU today")
    with pytest.raises(InputError, match="device 'cuda': no GPU today"):
        gpu_check.main(["--out", str(tmp_path / "check")])
    document = json.loads((tmp_path / "check" / "gpu_check.json").read_text())
    assert (document["summary"], document["items"]) == (["no GPU today"], [])


def test_the_plan_is_printed_without_a_gpu(capsys):
    assert gpu_check.main(["--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "PREDICTED, not measured" in out
    assert all(name in out for name in NAMES)


def test_the_plan_stands_in_the_docs():
    text = (ROOT / "docs" / "gpu_check.md").read_text()
    rows = gpu_check.predicted_clock(PLAN, NINE)
    lines = [f"| {' | '.join(str(row[key]) for key in gpu_check.CLOCK)} |" for row in rows]
    assert "\n".join(lines) in text, "docs/gpu_check.md needs:\n" + "\n".join(lines)


def test_bad_input(tmp_path, capsys):
    with pytest.raises(InputError, match=r"--only nothing: expected some of info, compile, "):
        gpu_check.main(["--dry-run", "--only", "step,nothing"])
    with pytest.raises(InputError, match=r"gpu_check\.json: expected what benchmarks\.gpu_check writes"):
        gpu_check.main(["--unpack", str(tmp_path)])
    (tmp_path / "file").write_text("")
    for arguments in (["--out", str(tmp_path / "file")], [], ["--dry-run", "--minutes", "0"]):
        with pytest.raises(SystemExit, match="2"):
            gpu_check.main(arguments)
    (tmp_path / "gpu_check.json").write_text('{"items": 3}')
    with pytest.raises(InputError, match="expected what"):
        gpu_check.main(["--unpack", str(tmp_path)])


# The summary


def item(name, *rows, status="passed", **more):
    return {"name": name, "status": status, "reason": None, "output": "", "results": {"rows": list(rows)}, **more}


def step(engine, ms, precision="fp32", **more):
    row = {"name": "train_step", "engine": engine, "precision": precision, "batch": 16, "ms": ms, "failed": None}
    return row | {"ratio": None, "paper_run_minutes": None} | more


def test_lost_items_come_first():
    crashed = item(
        "step",
        status="crashed",
        reason="by SIGSEGV",
        seconds=3.2,
        output="warm\nFatal Python error: bad address\n  File",
    )
    left_out = item("step_against_torch", status="left out", reason="not installed: torch")
    sentences = summary([left_out, crashed, item("conv", status="no time left")])
    assert sentences == [
        "step: crashed by SIGSEGV after 3.2 s: Fatal Python error: bad address",
        "left out: step_against_torch (not installed: torch)",
        "not begun, no time was left: conv",
    ]
    assert summary([]) == ["Nothing was measured."]


def test_the_side_stream_is_named_where_it_is_faster():
    rows = step("gzkern", 1.2), step("gzkern side stream", 1.0), step("gzkern", 0.5, "tf32")
    sentences = summary([item("step", *rows, step("gzkern side stream", 0.499, "tf32"))])
    assert [each for each in sentences if "side stream" in each] == [
        "in fp32 the update on the side stream is 1.20 times as fast as the fused one: "
        "make it the default (steps.record)"
    ]


def test_a_step_stands_beside_its_prediction(monkeypatch):
    monkeypatch.setattr(
        words,
        "_predicted",
        lambda: {"totals": [{"precision": "fp32", "at_most_us": 1003.0, "taken": True}], "rows": []},
    )
    rows = [step("gzkern", 1.1, paper_run_minutes=28.6, ratio=0.8, baseline="torch graph")]
    sentences = summary([item("step_against_torch", *rows)])
    assert sentences == [
        "a step of 16 images in fp32: 1100 µs, PREDICTED 1003 on an H100; the paper's run would take 28.6 min",
        "train_step of 16 images in fp32: 0.80 times as fast as torch graph",
    ]


def test_launches_that_are_late(monkeypatch):
    predicted = [
        {"precision": "fp32", "operation": "conv2", "kernel": name, "us": us, "update": "fused"}
        for name, us in (("a", 10.0), ("b", 10.0), ("c", 1.0))
    ]
    monkeypatch.setattr(words, "_predicted", lambda: {"totals": [], "rows": predicted})
    times = {"a": 0.0101, "b": 0.025, "c": 0.004}
    launches = [
        {"name": "train_step", "precision": "fp32", "operation": "conv2", "kernel": kernel, "ms": ms}
        for kernel, ms in times.items()
    ]
    assert summary([{**item("step"), "results": {"rows": [], "launches": launches}}]) == [
        "conv2 in fp32, b: 25.0 µs, PREDICTED 10.0",
        "conv2 in fp32, c: 4.0 µs, PREDICTED 1.0",
    ]


def test_wrong_and_slow_kernels():
    def row(layer, ms, theirs, error=None, l2="cold"):
        return {
            **{
                "name": "conv2d",
                "layer": layer,
                "pass": "forward",
                "variant": "pool",
                "precision": "fp32",
                "batch": 16,
            },
            **{"l2": l2, "ms": ms, "baseline": "cudnn", "baseline_ms": theirs, "ratio": theirs / ms, "error": error},
        }

    rows = row("conv1", 0.03, 0.06), row("conv2", 0.1, 0.05, "conv2: off by 7"), row("conv3", 0.1, 0.02, l2="warm")
    assert summary([item("conv", *rows)]) == [
        "wrong: conv2: off by 7",
        "conv2d conv2 forward pool fp32, batch 16: 100.0 µs, cudnn 50.0",
    ]


def test_tiles_and_ceilings():
    def tile(name, ms, chosen):
        names = {"layer": "conv2", "pass": "forward", "precision": "fp32", "batch": 16, "version": "specialised"}
        return {**names, "tile": name, "ms": ms, "chosen": chosen, "error": None}

    gap = {"name": "launch, in a CUDA graph", "us": 1.7}
    copy = {"name": "copy on the device", "gb_s": 4301.2}
    results = [item("tiles", tile("a", 0.05, None), tile("b", 0.1, "yes")), item("bandwidth", copy, gap)]
    assert summary(results) == [
        "conv2 forward in fp32, batch 16: specialised <a> takes 50.0 µs, the chosen specialised <b> 100.0",
        "a copy on the device: 4301 GB/s, read and written",
        "a kernel more in a CUDA graph: 1.7 µs; the predictions assume 1",
    ]


# Taken apart


def test_measurements_are_taken_apart(tmp_path, capsys):
    facts = {"gpu": "NVIDIA H200", "command": "python -m benchmarks.train_step"}
    launch = {"name": "train_step", "precision": "fp32", "batch": 16, "kernel": "k", "ms": 1}
    alone = {**facts, "rows": [step("gzkern", 1.2), step("gzkern side stream", 1.0)], "launches": [launch, launch]}
    against = {
        **facts,
        "rows": [step("gzkern", 1.1, ratio=2.0), step("gzkern side stream", None)],
        "launches": [launch],
    }
    items = [
        {**item("info"), "results": None},
        {**item("step"), "results": alone},
        {**item("step_against_torch"), "results": against},
        {**item("conv"), "results": {**facts, "rows": []}},
    ]
    (tmp_path / "gpu_check.json").write_text(json.dumps({"gpu": "NVIDIA H200", "items": items}))
    out = tmp_path / "results"
    assert gpu_check.main(["--unpack", str(tmp_path), "--results", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["gpu_check.json", "train_step_cuda.json"]
    found = json.loads((out / "train_step_cuda.json").read_text())
    assert found["gpu"] == "NVIDIA H200"
    assert {row["engine"]: row["ms"] for row in found["rows"]} == {"gzkern": 1.1, "gzkern side stream": 1.0}
    assert len(found["launches"]) == 2
    assert "results" not in json.loads((out / "gpu_check.json").read_text())["items"][1]
