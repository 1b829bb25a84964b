"""One rank of the comparison in Keras: the same model.fit without Horovod, with a bare allreduce, with ours.

    python -m hvd_imagenet launch -np 2 -- python benchmarks/keras_loops.py STEPS ROUNDS

The three take turns within one process, so that both cores are as busy for each of them. What the bare allreduce adds
to a step, waiting for the other rank included, is the allreduce itself; what ours adds beyond that is the adapter.
Rank 0 prints a JSON object: for every turn the median seconds of a step.
"""

import json
import statistics
import sys
import time
from typing import Any

import horovod.tensorflow
import keras
import numpy as np

import hvd_imagenet.keras as hvd
from hvd_imagenet.keras.models import resnet20

BATCH, IMAGE_SIZE_PX, CLASSES = 32, 32, 10


class BareAllreduce(keras.Model):
    """A training step that calls Horovod's grouped allreduce by itself."""

    def train_step(self, data: Any) -> dict[str, Any]:
        import tensorflow as tf

        images, labels = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(images, labels, self(images, training=True))
        weights = self.trainable_variables
        gradients = tape.gradient(loss, weights)
        reduced = horovod.tensorflow.grouped_allreduce(gradients, op=horovod.tensorflow.Average, name="bare")
        self.optimizer.apply_gradients(zip(reduced, weights, strict=True))
        return {"loss": loss}


class SingleProcess(BareAllreduce):
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
    """Seconds from one step's begin to the next one's."""

    def __init__(self) -> None:
        super().__init__()
        self.begins: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.begins.append(time.perf_counter())


def compiled(kind: type[keras.Model], distributed: bool) -> keras.Model:
    network = resnet20(num_classes=CLASSES)
    model = kind(network.inputs, network.outputs)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    if distributed:
        optimizer = hvd.DistributedOptimizer(optimizer)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, jit_compile=False)
    return model


def main() -> None:
    steps, rounds = map(int, sys.argv[1:3])
    hvd.init()
    source = np.random.default_rng(0)
    images = source.normal(size=(BATCH * steps, IMAGE_SIZE_PX, IMAGE_SIZE_PX, 3)).astype("float32")
    labels = source.integers(0, CLASSES, BATCH * steps)
    models = {
        "single": compiled(SingleProcess, distributed=False),
        "bare_allreduce": compiled(BareAllreduce, distributed=False),
        "ours": compiled(SingleProcess, distributed=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name in list(models)[:: 1 if turn % 2 else -1]:
            clock = Clock()
            models[name].fit(images, labels, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[clock])
            seconds[name].append(statistics.median(np.diff(clock.begins)))
    if hvd.rank() == 0:
        print(json.dumps({name: turns[1:] for name, turns in seconds.items()}), flush=True)  # the first one is traced


if __name__ == "__main__":
    main()
