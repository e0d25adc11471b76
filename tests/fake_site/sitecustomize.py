"""With this folder and ``tests`` on the PYTHONPATH, a Python that sees FAKE_GPU has the fake CuPy from its start."""

import os

if os.environ.get("FAKE_GPU"):
    import fake_cupy  # noqa: F401
