"""The fast float32 paths of the CPU device: Numba, around two register tiles written as vector code."""
