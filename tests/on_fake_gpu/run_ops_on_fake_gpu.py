"""``python -m benchmarks.ops`` on a fake CuPy, cuBLAS and cuDNN, on small layers; in a process of its own."""

import sys

import fake_cublas  # noqa: F401
import fake_cudnn

from benchmarks import ops
from benchmarks.baselines import cudnn
from benchmarks.harness.problems import layers
from benchmarks.harness.problems.layers import published, small


def small_layer(layer, batch):
    sizes, variant = published(layer, batch)
    return small(sizes), variant


layers.published = small_layer
layers.dense_sizes = lambda: [(96, 64, "maxout"), (32, 37, "linear")]
cudnn.shared_library = fake_cudnn.Library
sys.exit(ops.main(sys.argv[1:]))
