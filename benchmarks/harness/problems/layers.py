"""Sizes of the published network's layers."""

from __future__ import annotations

import numpy as np

from gzkern.config import load_config
from gzkern.core.shapes import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, VIEWS, Conv2dSizes
from gzkern.decision_trees.tree import load_tree
from gzkern.models.network import empty_network

LAYERS = ("conv1", "conv2", "conv3", "conv4")
PASSES = (FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS)


def published(layer: str, batch: int) -> tuple[Conv2dSizes, str]:
    """Return sizes and epilogue of a convolution for a batch of images, each of 16 views."""
    convolutions = {each.name: each for each in empty_network(load_config("paper"), "cpu").convolutions}
    return convolutions[layer].sizes(VIEWS * batch), convolutions[layer].epilogue


def small(sizes: Conv2dSizes) -> Conv2dSizes:
    """Return a layer of the same filters with few channels and positions, for a device that is emulated."""
    extent = sizes.R + 3
    return Conv2dSizes(min(sizes.C, 4), extent, extent, sizes.N, sizes.R, sizes.S, 16)


def dense_sizes() -> list[tuple[int, int, str]]:
    """Return inputs, outputs and activation of each dense layer."""
    model = load_config("paper").model
    sizes, epilogue = published(LAYERS[-1], 1)
    inputs = int(np.prod(sizes.y(epilogue)[:3])) * VIEWS
    found = []
    for units in model.units:
        found.append((inputs, 2 * units, "maxout"))
        inputs = units
    return [*found, (inputs, len(load_tree()), "linear")]
