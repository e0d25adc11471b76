"""Other people's kernels, one module a library: ``missing(device)`` and ``contenders(problem, device)``.

``missing`` says in a sentence why a library cannot be measured on a device; None if it can.
``contenders`` yields every way that the library has to solve a problem.
"""

from __future__ import annotations

from types import ModuleType

from . import cublas, cudnn, pytorch

BASELINES: dict[str, ModuleType] = {"cudnn": cudnn, "torch": pytorch, "cublas": cublas}
