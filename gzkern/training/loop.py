"""Training: the stream of examples, the schedule, and everything that makes a run safe to stop and resume.

All that a step depends on is a function of (configuration, data, step number) and of the weights and velocities, so
a checkpoint of those two resumes a run bit for bit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

from ..analysis.evaluation import rmse
from ..augment.geometry import reach
from ..augment.pool import BatchPool, new_staging_buffer
from ..config import Config, load_config, to_toml
from ..core import environment
from ..core.files import LOCK, locked, write_atomically
from ..core.processes import cores
from ..data.dataset import Dataset, open_dataset, split
from ..data.encoded import EncodedImages
from ..data.loading import describe_skipped
from ..data.recentring import recentring_of
from ..data.sampling import chunk_length, example_images
from ..decision_trees.tree import load_tree, locate_tree
from ..device import MOST_WORKERS, Device, KernelDevice, select, set_threads
from ..errors import GzkernError, InputError, OutOfMemory
from ..models.network import build_network
from ..models.predictor import Predictor
from ..nn.optimiser import Nesterov
from ..nn.schedule import learning_rate
from ..prediction.arrays import predict_rows
from ..runs import checkpoint
from ..runs.run import Run
from .feeds import CropFeed, ImageFeed
from .memory import largest_batch, step_memory
from .steps import CapturedSteps, EagerSteps, Steps

_LINES_PER_VALIDATION = 10  # lines of metrics.jsonl from one validation to the next
_CHECKPOINT_SECONDS = 600  # the longest time between two checkpoints
_MOST_OF_MEMORY = 0.95  # that images and a step may take; the driver's and CuPy's own is not counted
_AHEAD = 512  # images that the CPU's ring holds, or two batches: 58 MB as published
_LOOK_SECONDS = 0.25  # from one look at a device that runs by itself to the next

AUGMENT_ON = ("auto", "device", "cpu")
"""Where images may be perturbed."""


class Interrupted(GzkernError):
    """Training was stopped by Ctrl-C or SIGTERM, after a checkpoint."""


def train(
    config: Config | None,
    data: str | Path,
    out: str | Path,
    *,
    device: str | Device | None = None,
    workers: int | None = None,
    threads: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    augment_on: str = "auto",
    progress: bool = True,
) -> Run:
    """Train a network and return its run.

    Args:
        config: what to train; None with ``resume``: the run's own.
        data: a pack, or a folder in the Kaggle layout.
        out: the run directory.
        device: "auto", "cpu", …; None asks ``GZKERN_DEVICE``.
        workers: augmentation threads; 0 augments in the training thread; None takes all cores but one for a GPU, else
            one.
        threads: compute threads; None takes one a core.
        resume: go on from the last checkpoint in ``out``; starts anew where there is none.
        overwrite: replace the run in ``out``.
        augment_on: "device" keeps all images there and perturbs them there; "cpu" perturbs them on the CPU; "auto" is
            the device where it launches kernels and has memory enough.
        progress: show a progress line on stderr.

    Raises:
        InputError: the configuration, the data or the directory cannot be used.
        Interrupted: stopped by Ctrl-C or SIGTERM; a checkpoint was written.
        GzkernError: the loss or a weight is no longer finite; names the examples and the last good checkpoint.
    """
    run = Run(out, select(device))
    config = _settle_config(run, config, resume=resume, overwrite=overwrite)
    dataset = open_dataset(
        data,
        load_tree(config.data.tree),
        smallest=config.data.crop,
        reach=reach(config.data, config.augment),
        progress=progress,
    )
    trainer = Trainer(config, dataset, run, device=device, progress=progress)
    if resume and augment_on == "auto" and isinstance(trainer.network.device, KernelDevice):  # as it began, to the bit
        augment_on = run.environment.get("augment_on", "auto")
    where = _augmenting_device(augment_on, config, trainer.network.device, dataset)
    threads_to_augment = _checked_workers(workers, trainer.network.device)
    facts = environment.describe(
        device=trainer.network.device.name,
        device_facts=trainer.network.device.describe(),
        precision=config.train.precision,
        threads=set_threads(trainer.network.device, threads),
        workers=0 if where == "device" else threads_to_augment,
        augment_on=where,
        data=str(Path(data).resolve()),
        data_fingerprint=dataset.fingerprint,
        data_skipped=len(dataset.quarantined),
        objects=None if trainer.recentring is None else hashlib.sha256(trainer.recentring.tobytes()).hexdigest(),
    )
    busy = f"{run.path}: another process is training there; wait for it, or choose another --out"
    with locked(run.path, busy):
        _settle_config(run, config, resume=resume, overwrite=overwrite)  # again: it may be there by now
        for line in describe_skipped(dataset.quarantined):
            trainer.say(line)
        augmented = "augmented there" if where == "device" else f"{facts['workers']} for augmentation"
        how = f"{facts['device']} in {facts['precision']}, {facts['threads']} threads, {augmented}"
        trainer.say(f"training on {config.train.examples:,} examples; {how}")
        if overwrite:
            _remove_run(run)
        first = trainer.restore(facts) if resume else 0
        write_atomically(run.config_file, to_toml(config).encode())
        write_atomically(run.environment_file, json.dumps(facts, indent=2).encode())
        trainer.fit(first, facts["workers"], where)
    return run


class Trainer:
    """One run in progress: its network, its optimiser, and where it is in the stream of examples."""

    def __init__(self, config: Config, dataset: Dataset, run: Run, *, device: str | Device | None, progress: bool):
        if dataset.labels is None:
            raise InputError(f"{dataset.path}: has no labels to learn from; pack it again with --labels CSV")
        self.config = config
        self.dataset = dataset
        self.labels = dataset.labels
        self.recentring = recentring_of(dataset, config.data, progress=progress)
        self.run = run
        self.progress = progress
        self.train_rows, self.validation_rows = split(len(dataset), config.data.validation)
        self.chunk_length = chunk_length(len(self.train_rows), config.train)
        self.network = build_network(config, device)
        self.predictor = Predictor(self.network)
        self.optimiser = Nesterov(self.network.device, self.network.parameters, config.train.momentum)
        self.steps = config.train.examples // config.train.batch
        self.validation_steps = max(1, config.train.validate_every // config.train.batch)
        self.line_steps = max(1, self.validation_steps // _LINES_PER_VALIDATION)

    def restore(self, facts: dict[str, Any]) -> int:
        """Take up the last checkpoint and return the number of steps done; 0 where there is none.

        Raises:
            InputError: the run was trained on other data, or the checkpoint is of another network.
        """
        before = self.run.environment
        if before and before.get("data_fingerprint") != facts["data_fingerprint"]:
            raise InputError(
                f"{self.run.path} was trained on other data ({before.get('data')}); resume with that, or "
                "choose another --out"
            )
        for key in environment.BIT_EXACT:
            if key in before and before[key] != facts[key]:
                self.say(f"{key} was {before[key]}, is {facts[key]}: the last bits may differ from one run")
        for leftover in self.run.checkpoint_folder.glob(".*.partial"):  # of a process that was killed
            leftover.unlink()
        found = checkpoint.list_checkpoints(self.run.checkpoint_folder)
        if not found:
            self.say(f"{self.run.path} has no checkpoint yet; starting from the beginning")
            _cut_metrics(self.run.metrics_file, 0)
            return 0
        step, weights, velocity = checkpoint.load(found[-1])
        self.network.load_state(weights)
        self.optimiser.load_state(self.network.runtime_order(velocity))
        _cut_metrics(self.run.metrics_file, step)
        return step

    def fit(self, first: int, workers: int, augment_on: str) -> None:
        """Train from step ``first`` to the end, and write the final weights."""
        with (
            _stop_request() as stop,
            closing(self._steps(first, workers, augment_on)) as steps,
            self._bar(first) as bar,
        ):
            bar.set_postfix_str("the first step compiles the code, once a machine")
            look = 0 if self.network.device.synchronous else _LOOK_SECONDS
            self.optimiser.start(first)
            window = _Window(self.optimiser, steps, first)
            saved_at = looked_at = time.monotonic()
            for step in range(first, self.steps):
                self._take(steps, step)
                bar.update(self.config.train.batch)
                done = step + 1
                validate = done % self.validation_steps == 0 or done == self.steps
                line_due = validate or done % self.line_steps == 0
                if line_due or stop.is_set() or time.monotonic() - looked_at >= look:
                    self._refuse_bad_step()
                    looked_at = time.monotonic()
                if line_due:
                    bar.set_postfix_str(_postfix(self._metrics(done, window, validate, steps.images)))
                if validate or stop.is_set() or time.monotonic() - saved_at > _CHECKPOINT_SECONDS:
                    path = self._checkpoint(done)
                    saved_at = time.monotonic()
                if line_due:
                    window = _Window(self.optimiser, steps, done)
                if stop.is_set() and done < self.steps:
                    raise Interrupted(
                        f"stopped after step {done} of {self.steps}; saved {path}; "
                        "the same command with --resume, and without --overwrite, goes on"
                    )
        checkpoint.save_weights(self.run.weights_file, self.network.state(), {"step": str(self.steps)})

    def _images_of(self, start: int, stop: int) -> np.ndarray:
        return example_images(self.config.train.seed, start, stop, len(self.train_rows), self.chunk_length)

    def _take(self, steps: Steps, step: int) -> None:
        """A step; one that does not fit says which batch would."""
        try:
            steps.take(step)
        except OutOfMemory as error:
            device = self.network.device
            if not isinstance(device, KernelDevice):
                raise
            own = sum(array.nbytes for array in (*self.network.parameters.values(), *self.optimiser.velocity.values()))
            fits = largest_batch(self.config, device.backend.limits, device.backend.free_bytes() + own)
            advice = f"about {fits} images fit" if fits else "no batch fits beside what is there"
            if steps.images is not None:
                advice += "; with --augment-on cpu no image stays there"
            raise OutOfMemory(
                f"a training step of train.batch = {self.config.train.batch}: {error}; {advice}"
            ) from error

    def _steps(self, first: int, workers: int, augment_on: str) -> Steps:
        train, device = self.config.train, self.network.device
        if augment_on == "device" and isinstance(device, KernelDevice):
            images, labels = self.dataset.images, self.labels
            self.say(
                f"copying {len(images):,} images to device {self.network.device.name}, {images.nbytes / 1e9:.1f} GB"
            )
            feed = ImageFeed(
                device.backend, self.network, images, labels, self._images_of, self.config, self.steps, self.recentring
            )
            return CapturedSteps(self.network, self.optimiser, train, feed)

        def start_pool(staging_buffer: Mapping[str, np.ndarray]) -> BatchPool:
            return BatchPool(
                self.dataset.images,
                self.labels,
                self._images_of,
                staging_buffer,
                seed=train.seed,
                augment=self.config.augment,
                data=self.config.data,
                first=first * train.batch,
                stop=self.steps * train.batch,
                workers=workers,
                recentring=self.recentring,
            )

        if not isinstance(device, KernelDevice):
            slots = max(2, _AHEAD // train.batch)
            staging_buffer = new_staging_buffer(slots, train.batch, self.network.target, len(self.network.tree))
            return EagerSteps(self.network, self.optimiser, train, start_pool(staging_buffer))
        crops = CropFeed(device.backend, self.network, start_pool, train.batch, self.steps)
        return CapturedSteps(self.network, self.optimiser, train, crops)

    def _refuse_bad_step(self) -> None:
        step = self.optimiser.bad_step()
        if step is None:
            return
        start, stop = (number * self.config.train.batch for number in (step, step + 1))
        ids = ", ".join(self.dataset.ids[row] for row in self._images_of(start, stop))
        self._diverged(f"the loss was no longer finite at step {step}, examples {start} to {stop - 1} (images {ids})")

    def _metrics(self, done: int, window: _Window, validate: bool, images: Any) -> dict[str, Any]:
        loss = window.loss(done)  # waits for the device, so before the speed
        speed = window.speed(done, self.config.train.batch)  # of training alone, so before the validation
        line = {
            "step": done,
            "examples": done * self.config.train.batch,
            "loss": loss,
            "rmse": math.sqrt(loss),
            "valid_rmse": self._validation_rmse(images) if validate and self.validation_rows else None,
            "lr": learning_rate(self.config.train, done - 1),
            **speed,
        }
        with self.run.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return line

    def _validation_rmse(self, images: Any) -> float:
        """``images``: all of them where they lie on the device, or None."""
        rows = np.arange(self.validation_rows.start, self.validation_rows.stop)
        answers = predict_rows(
            self.predictor, self.config.data, self.dataset.images, rows, on_device=images, recentring=self.recentring
        )
        return rmse(answers, self.labels[rows])

    def _checkpoint(self, done: int) -> Path:
        self._refuse_bad_step()
        weights = self.network.state()
        for name, array in weights.items():
            if not np.isfinite(array).all():
                self._diverged(f"parameter {name} is no longer finite after step {done - 1}")
        velocity = self.network.file_order(self.optimiser.state())
        return checkpoint.save(self.run.checkpoint_folder, done, weights, velocity, self.config.train.checkpoints_kept)

    def _diverged(self, what: str) -> NoReturn:
        found = checkpoint.list_checkpoints(self.run.checkpoint_folder)
        last = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
        raise GzkernError(f"{what}; {last}; start again with a smaller train.lr")

    def _bar(self, first: int) -> tqdm:
        batch = self.config.train.batch
        return tqdm(
            total=self.steps * batch,
            initial=first * batch,
            unit="image",
            disable=not self.progress,
            smoothing=0.05,
        )

    def say(self, message: str) -> None:
        """A line on stderr, where progress is shown."""
        if self.progress:
            print(f"gzkern: {message}", file=sys.stderr)


class _Window:
    """What happened since the last line of metrics.jsonl."""

    def __init__(self, optimiser: Nesterov, steps: Steps, first: int):
        self._optimiser = optimiser
        self._steps = steps
        self._first = first
        self._start = time.monotonic()

    def loss(self, done: int) -> float:
        """Mean of the batch losses."""
        return self._optimiser.take_total() / (done - self._first)

    def speed(self, done: int, batch: int) -> dict[str, float | None]:
        seconds = time.monotonic() - self._start
        report = {"images_per_s": (done - self._first) * batch / seconds, **self._steps.take_report()}
        return {name: None if value is None else round(value, 3) for name, value in report.items()}


def _postfix(line: dict[str, Any]) -> str:
    valid = "" if line["valid_rmse"] is None else f", valid {line['valid_rmse']:.4f}"
    return f"rmse {line['rmse']:.4f}{valid}"


def _settle_config(run: Run, config: Config | None, *, resume: bool, overwrite: bool) -> Config:
    """The configuration to train by, once ``out`` is known to be free for it."""
    exists = run.config_file.is_file()
    if config is not None:  # the run must find its tree from any folder
        data = dataclasses.replace(config.data, tree=locate_tree(config.data.tree))
        config = dataclasses.replace(config, data=data)
    if resume and overwrite:
        raise InputError("--resume keeps the run and --overwrite replaces it; give one of the two")
    if resume and exists:
        stored = load_config(run.config_file)
        if config not in (None, stored):
            raise InputError(
                f"{run.config_file} differs from the configuration asked for; leave --config and --set out to go "
                "on as it began, or choose another --out"
            )
        return stored
    if config is None:
        raise InputError(f"{run.path}: no run to resume (no config.toml in it); give a configuration")
    if run.path.exists() and not run.path.is_dir():
        raise InputError(f"{run.path}: is a file; --out names a directory")
    if exists and not overwrite:
        raise InputError(f"{run.path} holds a run already; pass --resume to go on, --overwrite to replace it")
    if run.path.is_dir() and {entry.name for entry in run.path.iterdir()} - {LOCK} and not exists:
        raise InputError(f"{run.path}: is not empty and not a run; choose another --out")
    return config


def _checked_workers(workers: int | None, device: Device) -> int:
    if workers is None:  # a GPU leaves the CPU to them, but for the thread that launches; elsewhere one is far ahead
        return max(1, cores() - 1) if device.name == "cuda" else 1
    if not 0 <= workers <= MOST_WORKERS:
        raise InputError(f"--workers {workers}: expected auto, or 0 to {MOST_WORKERS} threads")
    return workers


def _augmenting_device(asked: str, config: Config, device: Device, dataset: Dataset) -> str:
    """Where images are perturbed: "device" or "cpu".

    Raises:
        InputError: no such place, or the device cannot hold the images.
    """
    if asked not in AUGMENT_ON:
        raise InputError(f"--augment-on {asked!r}: expected {', '.join(AUGMENT_ON)}")
    if isinstance(dataset.images, EncodedImages):  # the device would need all of them decoded at once
        if asked == "device":
            raise InputError("--augment-on device: the images are too many to be decoded into memory; pack them first")
        return "cpu"
    if not isinstance(device, KernelDevice):
        if asked == "device":
            raise InputError("--augment-on device: device 'cpu' augments on the CPU anyway; leave it out")
        return "cpu"
    if asked == "cpu":
        return "cpu"
    needed, free = dataset.images.nbytes, device.backend.free_bytes()
    fits = needed + step_memory(config, device.backend.limits).total <= _MOST_OF_MEMORY * free
    if asked == "device" and not fits:
        raise InputError(
            f"--augment-on device: the images take {needed / 2**30:.1f} GiB, and the device has {free / 2**30:.1f} GiB "
            "free; leave it out, and the CPU augments"
        )
    return "device" if fits else "cpu"


def _remove_run(run: Run) -> None:
    """Remove what a run consists of, and nothing else that may lie in the directory."""
    for file in (run.metrics_file, run.weights_file, run.environment_file, run.config_file):
        file.unlink(missing_ok=True)
    shutil.rmtree(run.checkpoint_folder, ignore_errors=True)


def _cut_metrics(path: Path, step: int) -> None:
    """Drop the lines after ``step``, and a last line that was cut short."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError):
            break
        kept.append(line + "\n")
    write_atomically(path, "".join(kept).encode())


@contextmanager
def _stop_request() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that a step is never cut in two; a second signal ends at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handler(number: int, _: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    try:
        for number in before:
            signal.signal(number, handler)
        yield stop
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
