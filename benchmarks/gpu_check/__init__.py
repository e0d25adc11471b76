"""Everything that needs a real GPU, sized for the ten minutes that a machine with one may be at hand."""
