"""The algorithms of the published network's convolutions, by layer, pass and precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..config import load_config
from ..core.shapes import BACKWARD_DATA, VIEWS
from ..cuda.conv2d import choice as conv2d
from ..cuda.conv2d.choice import Choice
from ..runtime.backend import Limits, Unit
from ..runtime.kernel import Kernel
from .network import empty_network


@dataclass(frozen=True)
class Chosen:
    """One pass of a layer, for so many images, in a precision that is asked for."""

    layer: str
    pass_name: str
    batch: int
    precision: str
    choice: Choice

    @property
    def kernel(self) -> Kernel | None:
        """The kernel that is compiled for the layer; None where one of the ladder is chosen."""
        version, precision, tile = self.choice.version, self.choice.precision, self.choice.tile
        if tile is None:
            return None
        return conv2d.ALGORITHMS[self.pass_name][version].kernels[precision].of(tile)


def chosen(limits: Limits, batches: Sequence[int], precisions: Sequence[str]) -> Iterator[Chosen]:
    """All that training (and, in precisions without gradients, prediction) computes, on a device of these limits."""
    for layer in empty_network(load_config("paper"), "cpu").convolutions:
        for pass_name in conv2d.ALGORITHMS:
            if layer.C == 3 and pass_name == BACKWARD_DATA:
                continue  # nothing asks for the gradient of the images
            for precision in (each for each in precisions if each in conv2d.precisions_of(pass_name)):
                for batch in batches:
                    sizes = layer.sizes(VIEWS * batch)
                    choice = conv2d.choose(pass_name, sizes, layer.epilogue, limits, precision)
                    yield Chosen(layer.name, pass_name, batch, precision, choice)


def compiled(limits: Limits, batch: int, precision: str) -> list[Unit]:
    """Kernel specialisations that the network needs, besides the generic kernels."""
    kernels = (each.kernel for each in chosen(limits, (batch,), (precision,)))
    return list(dict.fromkeys((kernel.file, kernel.tile) for kernel in kernels if kernel is not None))
