"""Shared parts of the benchmarks: problems, engines, turns, timing, verification, options, reports."""
