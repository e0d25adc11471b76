"""Kernels without a GPU: compilers, machine code, memory traces, predicted times."""
