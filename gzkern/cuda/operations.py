"""The operations of the devices that run the kernels: ``cuda`` and ``emulated``."""

from __future__ import annotations

from ..runtime import operations as table
from . import (
    bf16_to_fp32,
    constraints,
    dropout,
    gather_batch,
    maxout,
    maxpool2d,
    mse,
    nan_guard,
    nesterov,
    relu,
    step_counter,
    viewpoints,
    warp,
)
from .conv2d import operation as conv2d
from .dense.backward import backward as dense_backward
from .dense.forward import forward as dense_forward

OPERATIONS = table.KernelOperations(
    bf16_to_fp32=table.Bf16ToFp32(bf16_to_fp32.convert),
    constraints=table.Constraints(
        constraints.forward, constraints.backward, constraints.clip_forward, constraints.clip_backward
    ),
    conv2d=table.Conv2d(conv2d.forward, conv2d.backward),
    dense=table.Dense(dense_forward, dense_backward),
    dropout=table.Dropout(dropout.forward, dropout.backward),
    gather_batch=table.GatherBatch(gather_batch.gather),
    maxout=table.Maxout(maxout.forward, maxout.backward),
    maxpool2d=table.MaxPool2d(maxpool2d.forward, maxpool2d.backward),
    mse=table.Mse(mse.forward, mse.backward),
    nan_guard=table.NanGuard(nan_guard.check),
    nesterov=table.Nesterov(nesterov.update, nesterov.update_all),
    relu=table.Relu(relu.forward, relu.backward),
    step_counter=table.StepCounter(step_counter.advance),
    viewpoints=table.Viewpoints(viewpoints.forward, viewpoints.backward),
    warp=table.Warp(warp.crops, warp.patches),
)
