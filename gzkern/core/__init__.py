"""Helpers of every layer: sizes, argument checks, the dropout mask, files, caches, threads and processes."""
