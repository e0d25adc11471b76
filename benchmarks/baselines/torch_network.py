"""The published network in PyTorch: the baseline, and a second opinion on every gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from gzkern.core.shapes import VIEWS
from gzkern.errors import InputError
from gzkern.models.network import Network


class TorchNetwork(nn.Module):
    """The network as PyTorch users would write it: N,C,H,W, a bias a position, maxout by a reshape.

    Args:
        network: whose sizes and weights to take.
        dropout: probability to drop an input of a dense layer.
    """

    def __init__(self, network: Network, dropout: float):
        super().__init__()
        if network.view_dense:
            raise InputError("the PyTorch baseline has no view_dense layer; set model.view_dense to 0")
        self.patch, self.dropout = network.patch, dropout
        self.pools = [layer.pool for layer in network.convolutions]
        self.activations = [layer.activation for layer in network.dense]
        self.tree = network.tree
        state = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in network.state().items()}
        self.filters = nn.ParameterList(
            state[f"{layer.name}.weight"].permute(3, 0, 1, 2).contiguous() for layer in network.convolutions
        )
        self.biases = nn.ParameterList(state[f"{layer.name}.bias"].clone() for layer in network.convolutions)
        self.dense = nn.ModuleList()
        for layer in network.dense:
            linear = nn.Linear(layer.inputs, layer.outputs)
            linear.weight = nn.Parameter(state[f"{layer.name}.weight"].T.contiguous())
            linear.bias = nn.Parameter(state[f"{layer.name}.bias"].clone())
            self.dense.append(linear)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops (B, 2, T, T, 3) to answers (B, A)."""
        B = len(crops)
        x = self._views(crops)
        for weight, bias, pool in zip(self.filters, self.biases, self.pools, strict=True):
            x = functional.relu(functional.conv2d(x, weight) + bias)
            if pool:
                x = functional.max_pool2d(x, 2)
        x = x.reshape(VIEWS, B, -1).transpose(0, 1).reshape(B, -1)
        for linear, activation in zip(self.dense, self.activations, strict=True):
            x = linear(functional.dropout(x, self.dropout, self.training))
            if activation == "maxout":
                x = x.view(B, -1, 2).amax(dim=-1)
            elif activation == "relu":
                x = functional.relu(x)
        return self._constrain(x)

    def _views(self, crops: torch.Tensor) -> torch.Tensor:
        planes = crops.permute(1, 0, 4, 2, 3)  # (2, B, 3, T, T)
        patches = [
            torch.rot90(mirrored, quarter, (2, 3))[:, :, : self.patch, : self.patch]
            for crop in planes
            for mirrored in (crop, crop.flip(3))
            for quarter in range(4)
        ]
        views = torch.cat(patches)
        return views.contiguous(memory_format=self._format())

    def _format(self) -> Any:
        weight = self.filters[1]
        last = weight.is_contiguous(memory_format=torch.channels_last)
        return torch.channels_last if last else torch.contiguous_format

    def _constrain(self, z: torch.Tensor) -> torch.Tensor:
        rectified = functional.relu(z)
        answers: list[torch.Tensor | None] = [None] * len(self.tree)
        for index in self.tree.order:
            question = self.tree.questions[index]
            part = rectified[:, question.columns]
            part = part / (part.sum(dim=1, keepdim=True) + 1e-12)
            if question.parent is not None:
                parent = answers[question.parent]
                assert parent is not None
                part = part * parent[:, None]
            for offset in range(part.shape[1]):
                answers[question.start + offset] = part[:, offset]
        return torch.stack([a for a in answers if a is not None], dim=1)

    def gradients(self, network: Network) -> dict[str, np.ndarray]:
        """The gradients of the last backward pass under gzkern's names, in the order of its files."""
        found = {}
        for layer, weight, bias in zip(network.convolutions, self.filters, self.biases, strict=True):
            found[f"{layer.name}.weight"] = weight.grad.permute(1, 2, 3, 0)
            found[f"{layer.name}.bias"] = bias.grad
        for dense, linear in zip(network.dense, self.dense, strict=True):
            found[f"{dense.name}.weight"] = linear.weight.grad.T
            found[f"{dense.name}.bias"] = linear.bias.grad
        return {name: gradient.numpy() for name, gradient in found.items()}
