"""What the benchmarks share: cases, turns, timing, verification, options, reports."""
