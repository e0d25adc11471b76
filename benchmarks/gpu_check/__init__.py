"""The check of everything that needs a real GPU, sized for the ten minutes that one may be at hand."""
