"""Training: it learns, it resumes bit for bit after any kind of stop, and it refuses what it cannot do."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from small_configs import SMALL, small_config

from gzkern.config import load_config
from gzkern.data.demo import draw_demo_set
from gzkern.data.opening import open_dataset
from gzkern.decision_trees.tree import load_tree
from gzkern.device import select
from gzkern.errors import GzkernError, InputError
from gzkern.runs import checkpoint
from gzkern.runs.run import load
from gzkern.training import loop as training
from gzkern.training import step as step_module
from gzkern.training.loop import Interrupted, train

LONG = ("train.examples=1600", "train.validate_every=160")


def weights(run):
    return checkpoint.load_weights(run.weights_file)


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], err_msg=name)


def test_a_short_training_learns(demo_pack, tmp_path):
    """It must explain a good part of what the mean of the labels leaves: a margin that a broken gradient misses."""
    config = small_config(
        "model.filters=[8, 8, 16, 16]", "model.units=[32]", "train.examples=6400", "train.validate_every=6400",
        "train.warmup_examples=0", "train.dropout=0.0", "train.lr=0.05", "augment.rotation=0.0",
        "augment.translation=0.0", "augment.zoom=1.0", "augment.flip=false", "data.validation=0.0",
    )  # fmt: skip
    run = train(config, demo_pack, tmp_path / "run", progress=False)
    labels = open_dataset(demo_pack, load_tree(), smallest=207, reach=0).labels
    mean_predictor = float(np.sqrt(np.mean((labels - labels.mean(axis=0)) ** 2)))
    assert run.metrics[-1]["rmse"] < 0.8 * mean_predictor


def test_what_a_run_leaves(demo_run):
    files = {p.name for p in demo_run.path.iterdir()}
    assert files == {"lock", "config.toml", "environment.json", "metrics.jsonl", "checkpoints", "weights.safetensors"}
    assert demo_run.config == small_config()
    assert [line["examples"] for line in demo_run.metrics][-1] == 160
    keys = {"step", "examples", "loss", "rmse", "valid_rmse", "lr", "images_per_s"}
    keys |= {"queue_fill", "wait_s", "pool_images_per_s", "pool_wait_s"}
    for line in demo_run.metrics:
        assert set(line) == keys
        assert line["rmse"] == pytest.approx(line["loss"] ** 0.5)
    validated = [line["examples"] for line in demo_run.metrics if line["valid_rmse"] is not None]
    assert validated == [64, 128, 160]
    steps = [p.name for p in checkpoint.list_checkpoints(demo_run.checkpoint_folder)]
    assert steps == ["000000004.safetensors", "000000008.safetensors", "000000010.safetensors"]
    environment = json.loads(demo_run.environment_file.read_text())
    assert {"threads", "workers", "device", "precision", "packages", "data_fingerprint"} <= set(environment)


def test_workers_do_not_change_a_bit(demo_run, demo_pack, tmp_path):
    for workers in (0, 3):
        run = train(small_config(), demo_pack, tmp_path / str(workers), workers=workers, progress=False)
        assert_same_weights(weights(run), weights(demo_run))


def test_folder_and_pack_train_alike(demo_run, demo_folder, tmp_path):
    run = train(small_config(), demo_folder, tmp_path / "run", progress=False)
    assert_same_weights(weights(run), weights(demo_run))


def test_another_seed_trains_another_network(demo_run, demo_pack, tmp_path):
    run = train(small_config("train.seed=1"), demo_pack, tmp_path / "run", progress=False)
    assert not np.array_equal(weights(run)["conv1.weight"], weights(demo_run)["conv1.weight"])


def test_old_checkpoints_go(demo_pack, tmp_path):
    config = small_config("train.validate_every=16", "train.checkpoints_kept=2")
    run = train(config, demo_pack, tmp_path / "run", progress=False)
    names = [int(p.stem) for p in checkpoint.list_checkpoints(run.checkpoint_folder)]
    assert names == [9, 10]


def command(pack, out, *more):
    settings = [part for override in (*SMALL, *LONG) for part in ("--set", override)]
    return [sys.executable, "-m", "gzkern", "train", "--data", str(pack), "--out", str(out),
            "--config", "laptop", *settings, *more]  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(demo_pack, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    return train(small_config(*LONG), demo_pack, out, progress=False)


def start_and_wait_for_a_checkpoint(pack, out):
    process = subprocess.Popen(command(pack, out), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not checkpoint.list_checkpoints(out / "checkpoints"):
        assert time.monotonic() < deadline, "no checkpoint came"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    return process


def test_a_killed_run_resumes_bit_for_bit(demo_pack, tmp_path, uninterrupted):
    out = tmp_path / "run"
    process = start_and_wait_for_a_checkpoint(demo_pack, out)
    process.kill()
    process.communicate()
    assert not (out / "weights.safetensors").exists(), "the run ended before the kill; make it longer"
    done = subprocess.run(command(demo_pack, out, "--resume"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same_weights(weights(load(out)), weights(uninterrupted))
    pairs = zip(load(out).metrics, uninterrupted.metrics, strict=True)
    assert all((a["step"], a["loss"]) == (b["step"], b["loss"]) for a, b in pairs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_the_run_resumes_bit_for_bit(demo_pack, tmp_path, uninterrupted, number):
    out = tmp_path / "run"
    process = start_and_wait_for_a_checkpoint(demo_pack, out)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors
    last = checkpoint.list_checkpoints(out / "checkpoints")[-1]
    assert str(last) in errors
    assert "--resume" in errors
    assert_same_weights(weights(train(None, demo_pack, out, resume=True, progress=False)), weights(uninterrupted))


def test_a_stop_in_python_raises_and_leaves_no_thread(demo_pack, tmp_path, monkeypatch):
    before, real = set(threading.enumerate()), training.EagerSteps.take

    def step(self, number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, number)

    monkeypatch.setattr(training.EagerSteps, "take", step)
    with pytest.raises(Interrupted, match=r"stopped after step [45] of .*saved"):
        train(small_config("train.examples=1000000"), demo_pack, tmp_path / "run", progress=False)
    assert set(threading.enumerate()) == before


def test_two_trainings_in_one_directory_are_refused(demo_pack, tmp_path, monkeypatch):
    run, real, messages = tmp_path / "run", training.EagerSteps.take, []

    def step(self, number):
        if number == 2:
            for how in ({"resume": True}, {"overwrite": True}):
                with pytest.raises(InputError) as caught:
                    train(small_config(), demo_pack, run, progress=False, **how)
                messages.append(str(caught.value))
        return real(self, number)

    monkeypatch.setattr(training.EagerSteps, "take", step)
    train(small_config(), demo_pack, run, progress=False)
    assert len(messages) == 2
    assert all("another process is training there" in message for message in messages)


def test_resume_cuts_the_metrics_back_to_the_checkpoint(demo_run, demo_pack, tmp_path):
    run = train(small_config(), demo_pack, tmp_path / "run", progress=False)
    run.weights_file.unlink()
    checkpoint.list_checkpoints(run.checkpoint_folder)[-1].unlink()
    with run.metrics_file.open("a") as file:
        file.write('{"step": 10, "exam')  # a line cut short by a crash
    run = train(None, demo_pack, run.path, resume=True, progress=False)
    assert [line["step"] for line in run.metrics] == [line["step"] for line in demo_run.metrics]
    assert_same_weights(weights(run), weights(demo_run))


def test_a_resume_before_the_first_checkpoint_starts_anew(demo_run, demo_pack, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.toml").write_bytes(demo_run.config_file.read_bytes())
    run = train(None, demo_pack, out, resume=True)
    assert "no checkpoint yet" in capsys.readouterr().err
    assert_same_weights(weights(run), weights(demo_run))


def poison(monkeypatch, step):
    """A loss that is not finite at this step."""
    real = training.Nesterov.watch
    monkeypatch.setattr(
        training.Nesterov, "watch", lambda self, loss: real(self, np.float32("nan") if self.step[0] == step else loss)
    )


def test_a_loss_that_is_not_finite_stops_the_run(demo_pack, tmp_path, monkeypatch):
    poison(monkeypatch, 6)
    with pytest.raises(GzkernError) as caught:
        train(small_config(), demo_pack, tmp_path / "run", progress=False)
    message = str(caught.value)
    assert "the loss was no longer finite at step 6, examples 96 to 111 (images 1000" in message
    assert "000000004.safetensors" in message
    assert caught.value.exit_code == 1
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_no_checkpoint_is_written_past_a_bad_step_that_nobody_looked_at(demo_pack, tmp_path, monkeypatch):
    """As on a GPU, whose losses are looked at now and then."""
    poison(monkeypatch, 3)
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", -1)
    device = copy.copy(select("cpu"))
    device.synchronous = False
    with pytest.raises(GzkernError, match=r"no longer finite at step 3, .*checkpoints/000000003\.safetensors"):
        train(small_config(), demo_pack, tmp_path / "run", device=device, progress=False)


def test_weights_that_are_not_finite_are_never_saved(demo_pack, tmp_path, monkeypatch):
    real = training.Nesterov.finish

    def poisoned(self, *arguments):
        real(self, *arguments)
        self.weights["conv2.bias"][0, 0, 0] = np.inf

    monkeypatch.setattr(training.Nesterov, "finish", poisoned)
    config = small_config("train.examples=16", "train.validate_every=16")
    with pytest.raises(GzkernError, match=r"parameter conv2\.bias is no longer finite after step 0"):
        train(config, demo_pack, tmp_path / "run", progress=False)
    assert checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints") == []


def test_the_warm_up_is_clipped_and_ends_with_fresh_velocity(demo_pack, tmp_path, monkeypatch):
    seen, resets = [], []
    real, reset = step_module.take_step, training.Nesterov.reset

    def spy(*arguments, **how):
        seen.append(how["constrained"])
        return real(*arguments, **how)

    monkeypatch.setattr(step_module, "take_step", spy)
    monkeypatch.setattr(training.Nesterov, "reset", lambda self: (resets.append(len(seen)), reset(self)))
    config = small_config("train.warmup_examples=10000", "train.examples=320")
    train(config, demo_pack, tmp_path / "run", progress=False)
    assert seen == [False] * 2 + [True] * 18
    assert resets == [2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resume": True, "overwrite": True}, "give one of the two"),
        ({}, "holds a run already"),
        ({"resume": True, "config": small_config("train.lr=0.3")}, "differs from the configuration asked for"),
        ({"overwrite": True, "workers": -1}, "--workers -1"),
        ({"overwrite": True, "threads": 0}, "--threads 0"),
        ({"overwrite": True, "device": "cuda"}, "use --device cpu"),
        ({"overwrite": True, "config": small_config("train.batch=64", "train.chunk=64")}, "at least one batch of 64"),
        ({"overwrite": True, "config": small_config("data.validation=0.001")}, "validation"),
        ({"overwrite": True, "config": small_config("train.precision=tf32")}, "fp32 alone"),
    ],
)
def test_bad_input_loses_nothing(demo_run, demo_pack, arguments, message):
    before = {p: p.read_bytes() for p in sorted(demo_run.path.rglob("*")) if p.is_file()}
    arguments = {"config": small_config(), **arguments}
    with pytest.raises(InputError) as caught:
        train(arguments.pop("config"), demo_pack, demo_run.path, progress=False, **arguments)
    assert message in str(caught.value)
    assert {p: p.read_bytes() for p in sorted(demo_run.path.rglob("*")) if p.is_file()} == before


def test_out_must_be_free(demo_pack, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        train(small_config(), demo_pack, tmp_path / "file", progress=False)
    with pytest.raises(InputError, match="not empty and not a run"):
        train(small_config(), demo_pack, tmp_path, progress=False, overwrite=True)
    with pytest.raises(InputError, match="no run to resume"):
        train(None, demo_pack, tmp_path / "none", progress=False, resume=True)


def test_overwrite_replaces_the_run_and_keeps_other_files(demo_pack, tmp_path):
    run = train(small_config("train.examples=32"), demo_pack, tmp_path / "run", progress=False)
    (run.path / "notes.txt").write_text("mine")
    again = train(small_config("train.examples=48"), demo_pack, run.path, overwrite=True, progress=False)
    assert (run.path / "notes.txt").read_text() == "mine"
    assert again.metrics[-1]["examples"] == 48
    assert [p.stem for p in checkpoint.list_checkpoints(run.checkpoint_folder)] == ["000000003"]


def test_other_data_is_refused_at_resume(demo_pack, tmp_path):
    run = train(small_config("train.examples=32"), demo_pack, tmp_path / "run", progress=False)
    draw_demo_set(tmp_path / "other", 40, seed=4)
    with pytest.raises(InputError, match="trained on other data"):
        train(None, tmp_path / "other", run.path, resume=True, progress=False)


def test_skipped_images_of_a_folder_are_said_and_counted(demo_folder, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(demo_folder, folder)
    bad = min((folder / "images_training_rev1").glob("*.jpg"))
    bad.write_bytes(bad.read_bytes()[:2000])
    run = train(small_config("train.examples=16"), folder, tmp_path / "run")
    assert f"{bad.name}: truncated after 2,000 bytes" in capsys.readouterr().err
    assert run.environment["data_skipped"] == 1


def test_a_run_finds_its_own_tree_from_any_folder(demo_pack, tmp_path, monkeypatch):
    shipped = Path(training.__file__).parents[1] / "decision_trees" / "galaxy_zoo_2.toml"
    shutil.copy(shipped, tmp_path / "mine.toml")
    monkeypatch.chdir(tmp_path)
    run = train(small_config("data.tree=mine.toml", "train.examples=16"), demo_pack, "run", progress=False)
    path = run.path.absolute()
    monkeypatch.chdir("/")
    assert load(path).predict(np.zeros((1, 424, 424, 3), np.uint8)).shape == (1, 37)


def test_images_that_stay_in_their_files_train_the_same_network(demo_run, demo_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gzkern.data.opening._MOST_MEMORY", 0)
    run = train(small_config(), demo_folder, tmp_path / "run", workers=3)
    assert "decoded whenever they are used" in capsys.readouterr().err
    assert_same_weights(weights(run), weights(demo_run))
    assert run.environment["data_fingerprint"] == demo_run.environment["data_fingerprint"]


def test_a_file_that_changes_stops_the_training_and_is_named(demo_folder, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    shutil.copytree(demo_folder, folder)
    monkeypatch.setattr("gzkern.data.opening._MOST_MEMORY", 0)
    opened = training.open_dataset

    def open_and_change(*arguments, **options):
        dataset = opened(*arguments, **options)
        for path in (folder / "images_training_rev1").glob("*7.jpg"):
            path.touch()
        return dataset

    monkeypatch.setattr(training, "open_dataset", open_and_change)
    with pytest.raises(GzkernError, match=r"augmentation failed in examples .*7\.jpg: was changed since"):
        train(small_config(), folder, tmp_path / "run", progress=False)


def test_recentred_images_by_epochs(demo_pack, demo_run, tmp_path, monkeypatch, capsys):
    pytest.importorskip("sep")
    shutil.copytree(demo_pack, tmp_path / "pack")
    config = small_config("data.recentre=gen2", "train.sampling=epochs")
    run = train(config, tmp_path / "pack", tmp_path / "run", progress=False)
    assert (tmp_path / "pack" / "objects_gen2.csv").is_file()
    assert run.metrics[0]["loss"] != demo_run.metrics[0]["loss"]
    final = weights(run)
    run.weights_file.unlink()
    max(run.checkpoint_folder.glob("*.safetensors")).unlink()
    monkeypatch.setitem(sys.modules, "sep", None)  # what the pack keeps is enough
    assert_same_weights(weights(train(None, tmp_path / "pack", run.path, resume=True, progress=False)), final)
    run.weights_file.unlink()
    objects = tmp_path / "pack" / "objects_gen2.csv"
    first, header, row, *rest = objects.read_text().splitlines(keepends=True)
    id_, _, *others = row.split(",")
    objects.write_text("".join([first, header, ",".join([id_, "200.0", *others]), *rest]))
    train(None, tmp_path / "pack", run.path, resume=True)
    assert "objects was" in capsys.readouterr().err  # others than the run began with


@pytest.mark.slow
def test_the_laptop_preset_learns_real_galaxies(tmp_path):
    from data_files import real_sample

    sample = real_sample()
    if sample is None:
        pytest.skip("no real sample on this machine")
    run = train(load_config("laptop", ["train.examples=32000"]), sample, tmp_path / "run", progress=False)
    assert run.metrics[-1]["valid_rmse"] < 0.15  # the mean of the labels scores 0.1669
