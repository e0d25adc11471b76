"""Dense layer with bias, activation, dropout and update: one module a kernel file."""
