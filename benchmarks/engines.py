"""Engines that train and predict, each in a process of its own, so that they share neither threads nor memory.

A parent asks one engine after the other for one timed pass at a time: A, B, A, B, …, on an otherwise idle machine.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from gzkern.config import Config

Engine = dict[str, Callable[[], Any]]


class Process:
    """An engine in a process; ``ask("step")`` runs one pass there and returns its seconds, or its result."""

    def __init__(self, build: Callable[[Config, int], Engine], config: Config, threads: int):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(build, config, threads, theirs), daemon=True)
        self._process.start()

    def ask(self, what: str) -> Any:
        """One pass; "seconds" of timed passes, the value of others.

        Raises:
            RuntimeError: the engine failed; its own message.
        """
        try:
            self._pipe.send(what)
            fine, answer = self._pipe.recv()
        except (EOFError, BrokenPipeError):
            raise RuntimeError("an engine's process died; out of memory?") from None
        if not fine:
            raise RuntimeError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send(None)
        self._process.join()


def _peak_bytes() -> int:
    """Peak resident memory of this process, as Linux counts it since its start."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _serve(build: Callable[[Config, int], Engine], config: Config, threads: int, pipe: Connection) -> None:
    try:
        engine = build(config, threads)
    except Exception as error:
        pipe.send((False, f"{type(error).__name__}: {error}"))
        return
    engine["peak_bytes"] = _peak_bytes
    while (what := pipe.recv()) is not None:
        try:
            begin = time.perf_counter()
            result = engine[what]()
            seconds = time.perf_counter() - begin
            pipe.send((True, seconds if what in ("step", "predict") else result))
        except Exception as error:
            pipe.send((False, f"{type(error).__name__}: {error}"))


def example_batch(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Crops (B, 2, T, T, 3) float32 and answer fractions (B, A), the same in every process."""
    rng = np.random.default_rng(config.train.seed)
    target = config.data.target
    crops = rng.random((config.train.batch, 2, target, target, 3), np.float32)
    return crops, rng.random((config.train.batch, 37), np.float32)


def gzkern_engine(config: Config, threads: int) -> Engine:
    """This project, on the CPU."""
    from gzkern.device import set_threads
    from gzkern.models.network import build_network
    from gzkern.nn.optimiser import Nesterov

    set_threads(threads)
    network = build_network(config, "cpu")
    optimiser = Nesterov(network.device, network.parameters, config.train.momentum)
    crops, targets = example_batch(config)
    steps = iter(range(1 << 30))

    def step() -> None:
        _, gradients = network.runtime_gradients(
            crops, targets, drop=config.train.dropout, seed_and_step=(0, next(steps))
        )
        optimiser.update(gradients, config.train.lr)

    return {"step": step, "predict": lambda: network.predict(crops)}


def torch_engine(config: Config, threads: int, *, channels_last: bool = False, bfloat16: bool = False) -> Engine:
    """PyTorch eager with its fused SGD."""
    import torch

    from benchmarks.torch_network import TorchNetwork
    from gzkern.models.network import build_network

    torch.set_num_threads(threads)
    network = TorchNetwork(build_network(config, "cpu"), config.train.dropout)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(network.parameters(), config.train.lr, config.train.momentum, nesterov=True, fused=True)
    crops, targets = map(torch.from_numpy, example_batch(config))
    cast = torch.autocast("cpu", torch.bfloat16) if bfloat16 else contextlib.nullcontext()

    def step() -> None:
        network.train()
        optimiser.zero_grad(set_to_none=True)
        with cast:
            loss = ((network(crops) - targets) ** 2).mean()
        loss.backward()
        optimiser.step()

    def predict() -> None:
        network.eval()
        with torch.inference_mode(), cast:
            network(crops)

    return {"step": step, "predict": predict}
