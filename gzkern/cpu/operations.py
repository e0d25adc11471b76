"""The operations of the CPU device."""

from __future__ import annotations

from ..runtime import operations as table
from . import (
    constraints,
    conv2d,
    dense,
    dropout,
    maxout,
    maxpool2d,
    mse,
    nan_guard,
    nesterov,
    relu,
    step_counter,
    viewpoints,
)

OPERATIONS = table.Operations(
    constraints=table.Constraints(
        constraints.forward, constraints.backward, constraints.clip_forward, constraints.clip_backward
    ),
    conv2d=table.Conv2d(conv2d.forward, conv2d.backward),
    dense=table.Dense(dense.forward, dense.backward),
    dropout=table.Dropout(dropout.forward, dropout.backward),
    maxout=table.Maxout(maxout.forward, maxout.backward),
    maxpool2d=table.MaxPool2d(maxpool2d.forward, maxpool2d.backward),
    mse=table.Mse(mse.forward, mse.backward),
    nan_guard=table.NanGuard(nan_guard.check),
    nesterov=table.Nesterov(nesterov.update, nesterov.update_all),
    relu=table.Relu(relu.forward, relu.backward),
    step_counter=table.StepCounter(step_counter.advance),
    viewpoints=table.Viewpoints(viewpoints.forward, viewpoints.backward),
)
