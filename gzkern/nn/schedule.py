"""The schedule of a run: the learning rate and the end of the warm-up (paper, training)."""

from __future__ import annotations

from ..config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate of update ``step`` (0-based): a tenth at each fraction of ``lr_steps`` that lies behind it."""
    passed = sum(step * config.batch >= fraction * config.examples for fraction in config.lr_steps)
    return config.lr / 10**passed


def warmup_steps(config: TrainConfig) -> int:
    """Updates whose answers are clipped, not constrained; at most a tenth of the run, so that it scales."""
    examples = min(config.warmup_examples, config.examples // 10)
    return -(-examples // config.batch)
