"""Install the fake CuPy at Python's start where FAKE_GPU is set; this folder and its parent are on the PYTHONPATH."""

import os

if os.environ.get("FAKE_GPU"):
    import fake_cupy  # noqa: F401
