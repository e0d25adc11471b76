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
Build = Callable[[Config, str, int], Engine]
"""From (configuration, device, threads); a pass returns when the device has done its work."""


class Process:
    """An engine in a process; ``ask("step")`` runs one pass there and returns its seconds, or its result."""

    def __init__(self, build: Build, config: Config, device: str, threads: int):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(build, config, device, threads, theirs), daemon=True)
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


def _serve(build: Build, config: Config, device: str, threads: int, pipe: Connection) -> None:
    try:
        engine = build(config, device, threads)
    except Exception as error:
        pipe.send((False, f"{type(error).__name__}: {error}"))
        return
    engine.setdefault("peak_bytes", _peak_bytes)
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


def gzkern_engine(config: Config, device: str, threads: int) -> Engine:
    """This project; threads are those of the CPU."""
    from gzkern.device import select, set_threads
    from gzkern.models.network import build_network
    from gzkern.nn.optimiser import Nesterov

    set_threads(select(device), threads)
    network = build_network(config, device)
    optimiser = Nesterov(network.device, network.parameters, config.train.momentum)
    crops, targets = example_batch(config)
    steps = iter(range(1 << 30))

    def step() -> None:
        number = next(steps)
        loss, gradients = network.runtime_gradients(
            crops, targets, drop=config.train.dropout, seed_and_step=(0, number)
        )
        optimiser.update(number, loss, gradients, config.train.lr)
        optimiser.bad_step()  # waits for the device

    engine: Engine = {"step": step, "predict": lambda: network.predict(crops)}
    if device == "cuda":
        import cupy

        engine["peak_bytes"] = cupy.get_default_memory_pool().total_bytes
    return engine


def torch_engine(
    config: Config, device: str, threads: int, *, channels_last: bool = False, bfloat16: bool = False
) -> Engine:
    """PyTorch eager with its fused SGD, in float32 without TF32, or in bfloat16 by autocast."""
    import torch

    from benchmarks.torch_network import TorchNetwork
    from gzkern.models.network import build_network

    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    network = TorchNetwork(build_network(config, "cpu"), config.train.dropout).to(device)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(network.parameters(), config.train.lr, config.train.momentum, nesterov=True, fused=True)
    crops, targets = (torch.from_numpy(array).to(device) for array in example_batch(config))
    cast = torch.autocast(device, torch.bfloat16) if bfloat16 else contextlib.nullcontext()
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def step() -> None:
        network.train()
        optimiser.zero_grad(set_to_none=True)
        with cast:
            loss = ((network(crops) - targets) ** 2).mean()
        loss.backward()
        optimiser.step()
        wait()

    def predict() -> None:
        network.eval()
        with torch.inference_mode(), cast:
            network(crops)
        wait()

    engine: Engine = {"step": step, "predict": predict}
    if device == "cuda":
        engine["peak_bytes"] = torch.cuda.max_memory_allocated
    return engine
