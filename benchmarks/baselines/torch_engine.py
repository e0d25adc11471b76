"""PyTorch as an engine, in the variants that its users know to be fast."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from gzkern.models.network import build_network

from ..harness.engines import RATE, SHORTEST, STEP, WARM_UPS, Call, Case, Engine, example_batch
from .torch_network import TorchNetwork


class Torch(Engine):
    """PyTorch with its fused SGD: float32 without TF32, TF32 everywhere, or bfloat16 by autocast.

    Args:
        case: see :class:`Case`.
        channels_last: the memory format of what convolutions read and write.
        bf16_weights: all of the network in bfloat16, once; it only predicts.
        compiled: a mode of torch.compile.
        captured: a whole pass, with the update, is one CUDA graph.
    """

    def __init__(
        self,
        case: Case,
        *,
        channels_last: bool = False,
        bf16_weights: bool = False,
        compiled: str | None = None,
        captured: bool = False,
    ):
        super().__init__()
        torch.set_num_threads(case.threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case.precision == "tf32"
        torch.backends.cudnn.benchmark = True
        train, dtype = case.config.train, torch.bfloat16 if bf16_weights else torch.float32
        network = TorchNetwork(build_network(case.config, "cpu"), train.dropout).to(case.device, dtype)
        if channels_last:
            network = network.to(memory_format=torch.channels_last)
        crops, targets = (torch.from_numpy(array).to(case.device) for array in example_batch(case.config))
        self._crops, self._targets = crops.to(dtype), targets
        cast = case.precision == "bf16" and not bf16_weights
        self._cast = partial(torch.autocast, case.device, torch.bfloat16, enabled=cast)
        self._optimiser = torch.optim.SGD(network.parameters(), RATE, train.momentum, nesterov=True, fused=True)
        self._network, self._compiled, self._captured = network, compiled, captured
        self._forward = torch.compile(network, mode=compiled) if compiled else network
        self._on_gpu = case.device == "cuda"
        self._loss: Any = None
        self._answers: Any = None
        if self._on_gpu:
            self.shortest = SHORTEST

    def start(self, what: str) -> Call:
        """See :class:`Engine`."""
        call = self._step if what == STEP else self._predict
        return self._as_graph(call) if self._captured else call

    def clock(self, call: Call, count: int) -> float:
        """See :class:`Engine`."""
        if not self._on_gpu:
            return super().clock(call, count)
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count):
            call()
        stop.record()
        stop.synchronize()
        return 1e-3 * float(start.elapsed_time(stop))

    def loss(self) -> float:
        """See :class:`Engine`; once not finite, it stays so."""
        return float(self._loss)

    def fetch(self) -> np.ndarray:
        """See :class:`Engine`."""
        return self._answers.float().cpu().numpy()

    def peak_bytes(self) -> int:
        """See :class:`Engine`."""
        return torch.cuda.max_memory_allocated() if self._on_gpu else super().peak_bytes()

    def _step(self) -> None:
        self._begin(training=True)
        self._optimiser.zero_grad(set_to_none=True)
        with self._cast():
            loss = ((self._forward(self._crops) - self._targets) ** 2).mean()
        loss.backward()
        self._optimiser.step()
        self._loss = loss.detach()

    def _predict(self) -> None:
        self._begin(training=False)
        without_gradients = torch.no_grad if self._compiled else torch.inference_mode
        with without_gradients(), self._cast():
            self._answers = self._forward(self._crops)

    def _begin(self, *, training: bool) -> None:
        self._network.training = training  # of dropout, which is a function here
        if self._compiled:
            torch.compiler.cudagraph_mark_step_begin()

    def _as_graph(self, call: Call) -> Call:
        """A pass as its replay, made as PyTorch's documentation has it: warmed up on a side stream, then captured."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return graph.replay
