"""The training steps in Keras that step_overhead.py and cycle_time.py compare; a rank runs one of them in model.fit.

usage: keras_loops.py LOOP MODEL IMAGE_SIZE IMAGES_PER_RANK [rank=NUMBER] turns=PATH

LOOP is ours (the step of single with our optimizer), bare_allreduce (a step that calls Horovod's grouped allreduce by
itself) or single, which knows of no other process. A turn (turns.py) is a list: steps that do not count, and those
whose seconds are the answer, from the beginning of one to that of the next.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from turns import serve

from hvd_imagenet.keras.models import MODELS

CLASSES = 10


class BareAllreduce(keras.Model):
    """A training step that calls Horovod's grouped allreduce by itself."""

    def train_step(self, data: Any) -> dict[str, Any]:
        import horovod.tensorflow
        import tensorflow as tf

        images, labels = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(images, labels, self(images, training=True))
        weights = self.trainable_variables
        gradients = tape.gradient(loss, weights)
        reduced = horovod.tensorflow.grouped_allreduce(gradients, op=horovod.tensorflow.Average, name="bare")
        self.optimizer.apply_gradients(zip(reduced, weights, strict=True))
        return {"loss": loss}


class SingleProcess(keras.Model):
    """The same step without it."""

    def train_step(self, data: Any) -> dict[str, Any]:
        import tensorflow as tf

        images, labels = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(images, labels, self(images, training=True))
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


class Clock(keras.callbacks.Callback):
    """When each step has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.begins: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.begins.append(time.perf_counter())


def joined(loop: str, options: dict[str, str]) -> tuple[int, Callable[[keras.optimizers.Optimizer], Any]]:
    """The rank, and what is made of an optimizer."""
    if loop == "single":
        return int(options["rank"]), lambda optimizer: optimizer
    import hvd_imagenet.keras as hvd

    hvd.init()
    return hvd.rank(), hvd.DistributedOptimizer if loop == "ours" else lambda optimizer: optimizer


def compiled(loop: str, name: str, image_size: int, wrapped: Callable[[keras.optimizers.Optimizer], Any]) -> Any:
    network = MODELS[name](num_classes=CLASSES)
    kind = BareAllreduce if loop == "bare_allreduce" else SingleProcess
    model = kind(network.inputs, network.outputs)
    optimizer = wrapped(keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, jit_compile=False)
    return model


def main() -> None:
    loop, name, image_size, images = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    options = dict(word.split("=", 1) for word in sys.argv[5:])
    rank, wrapped = joined(loop, options)
    model = compiled(loop, name, image_size, wrapped)
    source = np.random.default_rng(0)
    pixels = source.normal(size=(images, image_size, image_size, 3)).astype("float32")
    labels = source.integers(0, CLASSES, images)

    def timed(request: list[int]) -> list[float]:
        uncounted, counted = request
        steps, clock = uncounted + counted + 1, Clock()  # the last one's end is not seen
        inputs, targets = np.tile(pixels, (steps, 1, 1, 1)), np.tile(labels, steps)
        model.fit(inputs, targets, batch_size=images, shuffle=False, verbose=0, callbacks=[clock])
        return [float(seconds) for seconds in np.diff(clock.begins)[uncounted:]]

    serve(options["turns"], rank, timed)


if __name__ == "__main__":
    main()
