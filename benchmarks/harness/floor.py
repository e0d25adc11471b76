"""The floor of a training step and of a prediction: work that cannot be saved, and the least time for it.

These are counted: the matrix products; one kernel a layer and pass, which reads each of its inputs once and writes each
result once; the crops as inputs of the first layer. A weight and its velocity are read and written where the gradient
is made, which is never stored; so a dense layer's whole backward pass reads its weights once, and with the forward pass
they are moved five times a step. Nothing is taken to stay in a cache from one kernel to the next: where the activations
do, as those of 16 images in 50 MB, the memory's floor is up to 4 % lower.
"""

from __future__ import annotations

from math import prod

from gzkern.core.shapes import BACKWARD_BIAS, BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, VIEWS
from gzkern.models.network import Network
from gzkern.nn.layers import Convolution, Dense

from .operation_counts import Work, conv2d_work, dense_work
from .peaks import Peaks

_FLOAT = 4  # bytes


def step_work(network: Network, batch: int) -> Work:
    """Return the work of a training step: forward, backward, update."""
    first = network.convolutions[0]
    flops, moved = 0, 2 * _crops_for_patches(network, batch)
    for layer in network.layers():
        passes = (FORWARD, BACKWARD_WEIGHTS) if layer is first else (FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS)
        works = [_work(network, layer, batch, pass_name) for pass_name in passes]
        weight, bias = (_FLOAT * prod(parameter.shape) for parameter in layer.parameters())
        flops += sum(work.flops for work in works)
        moved += sum(work.bytes for work in works) - weight + 4 * (weight + bias)
        if isinstance(layer, Dense):  # reads its weights and what comes back to it once for both gradients
            moved -= weight + _work(network, layer, batch, BACKWARD_BIAS).bytes - bias
    return Work(flops, moved)


def predict_work(network: Network, batch: int, itemsize: int = _FLOAT) -> Work:
    """Return the work of a prediction; ``itemsize`` is that of weights and activations."""
    works = [_work(network, layer, batch, FORWARD) for layer in network.layers()]
    codes = sum(_codes(network, layer, batch) for layer in network.layers())  # only a backward pass reads them
    moved = sum(work.bytes for work in works) - codes + _crops_for_patches(network, batch)
    return Work(sum(work.flops for work in works), moved * itemsize // _FLOAT)


def floor(work: Work, peaks: Peaks, precision: str) -> tuple[float, str] | None:
    """Return the least milliseconds and what binds, "arithmetic" or "memory"; None where a peak is not known."""
    tflops = peaks.tflops.get(precision)
    if not tflops or not peaks.gb_s:
        return None
    return max((1e-9 * work.flops / tflops, "arithmetic"), (1e-6 * work.bytes / peaks.gb_s, "memory"))


def _columns(network: Network, layer: Convolution | Dense, batch: int) -> int:
    """Images, or views where the layer comes before the merge."""
    return batch if layer in network.dense else batch * VIEWS


def _work(network: Network, layer: Convolution | Dense, batch: int, pass_name: str) -> Work:
    columns = _columns(network, layer, batch)
    if isinstance(layer, Convolution):
        return conv2d_work(layer.sizes(columns), pass_name, layer.epilogue)
    return dense_work(layer.inputs, layer.outputs, columns, pass_name, layer.activation)


def _codes(network: Network, layer: Convolution | Dense, batch: int) -> int:
    """Bytes of the codes that a forward pass writes."""
    columns = _columns(network, layer, batch)
    if isinstance(layer, Convolution):
        return prod(layer.sizes(columns).y(layer.epilogue)) if layer.pool else 0
    return layer.units * columns if layer.activation == "maxout" else 0


def _crops_for_patches(network: Network, batch: int) -> int:
    """Bytes that reading the crops takes more (here: fewer) than reading the patches."""
    patches = prod(network.convolutions[0].sizes(batch * VIEWS).x)
    return _FLOAT * (batch * 2 * 3 * network.target**2 - patches)
