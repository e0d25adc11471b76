"""Learning rate and warm-up: the published steps, and runs of other lengths."""

import pytest

from gzkern.config import load_config
from gzkern.nn.schedule import learning_rate, warmup_steps


def test_published_steps():
    train = load_config("paper").train
    chunk = 625  # updates
    for at, rate in ((0, 0.04), (1799, 0.04), (1800, 0.004), (2299, 0.004), (2300, 0.0004), (2499, 0.0004)):
        assert learning_rate(train, at * chunk) == pytest.approx(rate)
    assert learning_rate(train, 1800 * chunk - 1) == 0.04
    assert warmup_steps(train) == 625


def test_short_runs_scale():
    train = load_config("paper", ["train.examples=1600"]).train
    assert warmup_steps(train) == 10  # a tenth of 100 updates
    assert learning_rate(train, 71) == 0.04
    assert learning_rate(train, 72) == pytest.approx(0.004)
    assert warmup_steps(load_config("paper", ["train.warmup_examples=0"]).train) == 0
