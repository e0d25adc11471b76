"""The CPU device: for every operation a plain NumPy oracle of any dtype and, for float32, a fast path.

A function named ``<pass>_oracle`` is the definition; the function of the pass itself takes the fast path for
float32 arrays and the oracle for every other dtype. Modules here never import Numba until a fast path runs.
"""
