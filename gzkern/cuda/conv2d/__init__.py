"""Valid convolution (stride 1) with untied biases, ReLU and 2×2 max-pool: one module a kernel file."""
