"""Training: the stream of examples, the schedule, and everything that makes a run safe to stop and resume.

All that a step depends on is a function of (configuration, data, step number) and of the weights and velocities, so
a checkpoint of those two resumes a run bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

from ..analysis.evaluation import rmse
from ..augment.geometry import reach
from ..augment.pool import BatchPool, new_staging_buffer
from ..config import Config, to_toml
from ..core import environment
from ..core.files import locked, write_atomically
from ..data.dataset import Dataset, split
from ..data.opening import open_dataset
from ..data.quarantine import describe_skipped
from ..data.recentring import recentring_of
from ..data.sampling import chunk_length, example_images
from ..decision_trees.tree import load_tree
from ..device import Device, KernelDevice, select, set_threads
from ..errors import GzkernError, InputError, OutOfMemory
from ..models.network import build_network
from ..models.predictor import Predictor
from ..nn.optimiser import Nesterov
from ..nn.schedule import learning_rate
from ..prediction.arrays import predict_rows
from ..runs import checkpoint
from ..runs.run import Run
from .augmentation import augmenting_device, augmenting_threads
from .feeds import CropFeed, ImageFeed
from .memory import largest_batch
from .resume import remove_run, restore, settle_config
from .signals import stop_request
from .step import CapturedSteps, EagerSteps, Steps

_LINES_PER_VALIDATION = 10  # lines of metrics.jsonl from one validation to the next
_CHECKPOINT_SECONDS = 600  # the longest time between two checkpoints
_STAGED_IMAGES = 512  # in the CPU's staging buffer, or two batches: 58 MB as published
_LOOK_SECONDS = 0.25  # from one look at a device that runs by itself to the next


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

    >>> import gzkern
    >>> config = gzkern.load_config("laptop", ["train.examples=64"])
    >>> gzkern.train(config, "demo/pack", "my-run", progress=False)
    <Run 'my-run': trained, 64 examples, validation RMSE 0...>
    """
    run = Run(out, select(device))
    config = settle_config(run, config, resume=resume, overwrite=overwrite)
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
    where = augmenting_device(augment_on, config, trainer.network.device, dataset)
    facts = _facts(trainer, data, where, threads, augmenting_threads(workers, trainer.network.device))
    busy = f"{run.path}: another process is training there; wait for it, or choose another --out"
    with locked(run.path, busy):
        settle_config(run, config, resume=resume, overwrite=overwrite)  # again: it may be there by now
        for line in describe_skipped(dataset.quarantined):
            trainer.say(line)
        augmented = "augmented there" if where == "device" else f"{facts['workers']} for augmentation"
        how = f"{facts['device']} in {facts['precision']}, {facts['threads']} threads, {augmented}"
        trainer.say(f"training on {config.train.examples:,} examples; {how}")
        if overwrite:
            remove_run(run)
        first = restore(run, trainer.network, trainer.optimiser, facts, trainer.say) if resume else 0
        write_atomically(run.config_file, to_toml(config).encode())
        write_atomically(run.environment_file, json.dumps(facts, indent=2).encode())
        trainer.fit(first, facts["workers"], where)
    return run


def _facts(trainer: Trainer, data: str | Path, where: str, threads: int | None, workers: int) -> dict[str, Any]:
    """Set the compute threads, and return what ``environment.json`` says of the machine, the data and the run."""
    device, dataset = trainer.network.device, trainer.dataset
    return environment.describe(
        device=device.name,
        device_facts=device.describe(),
        precision=trainer.config.train.precision,
        threads=set_threads(device, threads),
        workers=0 if where == "device" else workers,
        augment_on=where,
        data=str(Path(data).resolve()),
        data_fingerprint=dataset.fingerprint,
        data_skipped=len(dataset.quarantined),
        objects=None if trainer.recentring is None else hashlib.sha256(trainer.recentring.tobytes()).hexdigest(),
    )


class Trainer:
    """One run in progress: its network, its optimiser, its data and its loop."""

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

    def fit(self, first: int, workers: int, augment_on: str) -> None:
        """Train from step ``first`` to the end, and write the final weights."""
        with (
            stop_request() as stop,
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
        """Take a step; if it does not fit into memory, the error says which batch would."""
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
            slots = max(2, _STAGED_IMAGES // train.batch)
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
        """Predict the held-out rows; ``images`` are all images if they lie on the device, else None."""
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
        """Print a line on stderr, if progress is shown."""
        if self.progress:
            print(f"gzkern: {message}", file=sys.stderr)


class _Window:
    """Loss and speed since the last line of metrics.jsonl."""

    def __init__(self, optimiser: Nesterov, steps: Steps, first: int):
        self._optimiser = optimiser
        self._steps = steps
        self._first = first
        self._start = time.monotonic()

    def loss(self, done: int) -> float:
        """Return the mean of the batch losses."""
        return self._optimiser.take_total() / (done - self._first)

    def speed(self, done: int, batch: int) -> dict[str, float | None]:
        seconds = time.monotonic() - self._start
        report = {"images_per_s": (done - self._first) * batch / seconds, **self._steps.take_report()}
        return {name: None if value is None else round(value, 3) for name, value in report.items()}


def _postfix(line: dict[str, Any]) -> str:
    valid = "" if line["valid_rmse"] is None else f", valid {line['valid_rmse']:.4f}"
    return f"rmse {line['rmse']:.4f}{valid}"
