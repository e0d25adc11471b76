"""Other people's kernels, one module a library: ``missing(device)`` and ``contenders(problem, device)``.

``missing`` says in a sentence what keeps a library from being measured on a device, None if nothing does.
``contenders`` yields every way that the library has for a problem, none where it has none.
"""

from __future__ import annotations

from types import ModuleType

from . import cublas, cudnn, pytorch

BASELINES: dict[str, ModuleType] = {"cudnn": cudnn, "torch": pytorch, "cublas": cublas}
