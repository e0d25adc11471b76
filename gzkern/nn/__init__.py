"""Layers, their initialisation, the optimiser and its schedule."""
