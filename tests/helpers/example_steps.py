"""A few training steps of a small network on the device's own images, to be taken eagerly or captured."""

import numpy as np
from small_configs import small_config

from gzkern.autograd.tape import Tape
from gzkern.data.sampling import example_images
from gzkern.models.network import build_network
from gzkern.nn.optimiser import Nesterov
from gzkern.nn.schedule import learning_rate, warmup_steps
from gzkern.training.feeds import ImageFeed
from gzkern.training.step import take_step

# Six steps: two of the warm-up, and a lower rate for the last three; more slots than a block of the staging buffer
# would not show that blocks change, so CropFeed is proved by the runs of test_kernel_devices.
SHORT = (
    *("train.examples=24", "train.batch=4", "train.chunk=8", "train.warmup_examples=8", "train.lr_steps=[0.5]"),
    "train.dropout=0.5",
)


class ExampleSteps:
    """A network, its optimiser and its feed, the same each time."""

    def __init__(self, device, *overrides):
        self.config = small_config(*SHORT, *overrides)
        train = self.config.train
        self.network = build_network(self.config, device)
        self.optimiser = Nesterov(self.network.device, self.network.parameters, train.momentum)
        rng = np.random.default_rng(5)
        images, labels = rng.integers(0, 256, (10, 230, 250, 3), np.uint8), rng.random((10, 37), np.float32)
        self.feed = ImageFeed(
            self.network.device.backend,
            self.network,
            images,
            labels,
            lambda start, stop: example_images(train.seed, start, stop, 10, train.chunk),
            self.config,
            stop=train.examples // train.batch,
        )

    def take_eagerly(self, step, side_stream=False):
        """Launch, one kernel after the other, those that a captured step replays."""
        train, device = self.config.train, self.network.device
        if step == warmup_steps(train):
            self.optimiser.reset()
        self.optimiser.set_rate(learning_rate(train, step))
        self.feed.provide(step)
        tape = Tape(device, precision=self.network.precision)
        patches, targets = self.feed.batch(tape, self.network, self.optimiser.step)
        take_step(
            self.network,
            self.optimiser,
            tape,
            patches,
            targets,
            constrained=step >= warmup_steps(train),
            drop=train.dropout,
            seed=train.seed,
            side_stream=side_stream,
        )

    def state(self):
        velocity = {f"velocity.{name}": array for name, array in self.optimiser.state().items()}
        total, step = (self.network.device.asnumpy(a) for a in (self.optimiser.total, self.optimiser.step))
        return {**self.network.state(), **velocity, "total": total, "step": step}
