"""Reverse-mode differentiation: a tape of closures, and the check of a gradient by finite differences."""
