"""The operations as CUDA kernels: one source, launched on a GPU through CuPy or on the emulated device.

``<op>.py``, or the modules of a folder ``<op>/``, have the functions of ``gzkern.cpu.<op>`` with the same signatures,
and beside them functions that take a version of the kernel. They check their arguments, allocate, launch, return.
Whether they run on a GPU or emulated follows from the arrays, CuPy's or NumPy's. CuPy is imported in ``runtime/``
alone.
"""
