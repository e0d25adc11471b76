"""The operations as CUDA kernels: one source, launched on a GPU through CuPy or on the emulated device.

``<op>.py`` has the functions of ``gzkern.cpu.<op>`` with the same signatures, and below them one function a kernel of
``kernels/<op>*.cu``: it checks, allocates, launches, returns. Whether they run on a GPU or emulated follows from the
arrays: CuPy's or NumPy's. CuPy is imported in ``device.py`` alone.
"""
