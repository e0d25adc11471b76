"""``python -m benchmarks.conv`` on a fake CuPy and cuDNN, on small layers; in a process of its own."""

import json
import sys
from pathlib import Path

import fake_cudnn

import benchmarks.conv
from benchmarks.baselines import cudnn
from benchmarks.harness.problems.layers import published, small


def small_layer(layer, batch):
    sizes, variant = published(layer, batch)
    return small(sizes), variant


benchmarks.conv.published = small_layer
cudnn.shared_library = fake_cudnn.Library
code = benchmarks.conv.main(sys.argv[2:])
Path(sys.argv[1]).write_text(json.dumps(fake_cudnn.deselected))
sys.exit(code)
