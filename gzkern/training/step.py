"""One step of training: forward, loss, backward, update. The same lines run at once or are recorded."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd.tape import Tape, Variable
from ..models.network import Network
from ..nn.optimiser import Nesterov
from ..ops.mse import mse


def take_step(
    network: Network,
    optimiser: Nesterov,
    tape: Tape,
    patches: Variable,
    targets: Any,
    *,
    constrained: bool,
    drop: float,
    seed: int,
    side_stream: bool = False,
) -> None:
    """Update the network by one batch; nothing is updated where this loss or one before is not finite.

    Args:
        network: the layers.
        optimiser: of its parameters; tells the step, which keys the dropout, and the rate.
        tape: new.
        patches: (3, S, S, 16·B), as ``network.patches`` makes them.
        targets: (A, B) float32, on the tape's device.
        constrained: False takes the clipped output of the warm-up.
        drop: probability to drop an input of a dense layer.
        seed: of the dropout masks.
        side_stream: where dense weights are updated in the backward pass, see ``update.Update``; no effect on the CPU.
    """
    device, optimiser = tape.device, optimiser.at(tape.device)
    updates = optimiser.updates(side_stream)
    variables = {name: Variable(array, True, updates[name]) for name, array in optimiser.weights.items()}
    seed_and_step = seed, optimiser.step
    answers = network.answers(tape, patches, variables, constrained=constrained, drop=drop, seed_and_step=seed_and_step)
    with tape.named("mse"):
        loss = mse(tape, answers, targets)
        optimiser.watch(loss.value)
    tape.backward(loss, device.asarray(np.ones((), np.float32)))
    with device.range("update"):
        optimiser.finish(loss.value, {name: variable.gradient for name, variable in variables.items()})
