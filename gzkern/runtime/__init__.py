"""From a kernel's source to its launch: NVRTC, arrays, the GPU, captured steps, CUDA graphs; the emulator."""
