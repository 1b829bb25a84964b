"""The network of a run, and its training step: all of a process's virtual workers, one pass after another."""

from collections.abc import Callable
from functools import partial
from typing import Any

import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf
from keras import ops

from hvd_imagenet.heartbeat import beat, watched
from hvd_imagenet.keras import models
from hvd_imagenet.keras.ema import ModelEma
from hvd_imagenet.keras.hook import hook_of, innermost
from hvd_imagenet.keras.layers import PerWorkerBatchNormalization
from hvd_imagenet.keras.variables import running_averages
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig


class Network(keras.Model):
    """Takes pixels as they were decoded, so that no float image is ever made on the host.

    Its train_step takes all images of this process in one iteration, computes its virtual workers in passes of
    workers_per_pass, and applies the sum of their gradients, which the optimizer's hook reduces with Sum.

    Args:
        model: (images, height, width, 3) → logits.
        recipe: its colours' mean and deviation, kn and n, label smoothing.
        workers_per_pass: virtual workers computed in one forward and backward pass.
        dtype: of the images that the model gets.
        restores_averages: whether an iteration without an update also leaves the running averages of batch
            normalisation as they were.
    """

    def __init__(
        self,
        model: keras.Model,
        recipe: Recipe,
        workers_per_pass: int = 1,
        dtype: str = "float32",
        restores_averages: bool = False,
    ) -> None:
        super().__init__(dtype=dtype)
        self.model = model
        self.ema: ModelEma | None = None
        self._recipe = recipe
        self._images_per_pass = recipe.per_worker * workers_per_pass
        self._restores_averages = restores_averages

    def call(self, pixels: Any, training: bool = False) -> Any:
        """(images, height, width, 3) uint8 → (images, classes) logits in the weights' dtype."""
        colours = self._recipe.pixel_mean, self._recipe.pixel_std
        mean, std = (ops.convert_to_tensor(each, self.variable_dtype) for each in colours)
        images = (ops.cast(pixels, self.variable_dtype) - mean) / std
        return ops.cast(self.model(images, training=training), self.variable_dtype)

    def train_step(self, data: tuple[Any, Any, Any]) -> dict[str, Any]:
        """One iteration; without an update where the loss or the gradient of any process is no finite number.

        Args:
            data: pixels uint8 (local workers · n, height, width, 3), labels (local workers · n,), and float64 (NOTES,),
                what this process tells the others.

        Returns:
            Over all processes: sums, float64 (4,), the fields of Sums; notes, float64 (NOTES,); finite, whether there
            was an update.
        """
        *images_and_labels, notes = data
        averages = list(running_averages(self.model).values()) if self._restores_averages else []
        before = [tf.identity(average.value) for average in averages]
        gradients, sums = self._accumulate(*images_and_labels)
        if watched():
            with tf.control_dependencies([*gradients, sums]):
                tf.numpy_function(partial(beat, "reducing gradients"), [], [])
        reduced = tf.concat([sums, notes], axis=0)
        if hvd.size() > 1:
            reduced = hvd.allreduce(reduced, op=hvd.Sum, name="hvd_imagenet.metrics", ignore_name_scope=True)
        # Of a reduced sum all processes see the same, so that they decide alike.
        finite = [tf.math.is_finite(reduced[1])]

        def update_if_finite(gradients: list[Any], update: Callable[[], Any]) -> None:
            finite[0] = tf.logical_and(finite[0], all_finite(gradients))
            tf.cond(finite[0], lambda: self._update(update), lambda: self._pass_over(averages, before))

        hook = hook_of(self.optimizer)
        hook.guard = update_if_finite
        self.optimizer.apply(gradients, self.trainable_variables)
        hook.guard = None
        return {"sums": reduced[:4], "notes": reduced[4:], "finite": finite[0]}

    def _update(self, update: Callable[[], Any]) -> Any:
        update()
        if self.ema is not None:
            self.ema.update()
        return tf.constant(True)

    def _pass_over(self, averages: list[Any], before: list[Any]) -> Any:
        for average, value in zip(averages, before, strict=True):
            average.assign(value)
        innermost(self.optimizer)._iterations.assign_add(1)
        return tf.constant(False)

    def passes_concerned(self, pixels: Any, labels: Any) -> list[int]:
        """The passes of this process that make a loss or a gradient which is no finite number; it computes them again.

        Args:
            pixels: as of train_step.
            labels: likewise.

        Returns:
            Their numbers.
        """
        averages = running_averages(self.model).values()
        kept = [np.array(average.numpy()) for average in averages]
        found = []
        for number, start in enumerate(range(0, len(labels), self._images_per_pass)):
            part = slice(start, start + self._images_per_pass)
            gradients, sums = self._one_pass(tf.convert_to_tensor(pixels[part]), tf.convert_to_tensor(labels[part]))
            if not (bool(tf.math.is_finite(sums[1])) and bool(all_finite(gradients))):
                found.append(number)
        for average, value in zip(averages, kept, strict=True):
            average.assign(value)
        return found

    def _accumulate(self, pixels: Any, labels: Any) -> tuple[list[Any], Any]:
        """Sums over the passes; a loop of the graph, whose size does not grow with their number."""
        images = pixels.shape[0]
        whole = images // self._images_per_pass
        if images <= self._images_per_pass:
            return self._one_pass(pixels, labels)
        in_passes = whole * self._images_per_pass
        passes = tf.reshape(pixels[:in_passes], (whole, self._images_per_pass, *pixels.shape[1:]))
        of_passes = tf.reshape(labels[:in_passes], (whole, self._images_per_pass))

        def add(number: Any, gradients: list[Any], sums: Any) -> tuple[Any, list[Any], Any]:
            more, more_sums = self._one_pass(passes[number], of_passes[number])
            return number + 1, [total + each for total, each in zip(gradients, more, strict=True)], sums + more_sums

        zeros = [tf.zeros(weight.shape, weight.dtype) for weight in self.trainable_variables]
        state = (tf.constant(0), zeros, tf.zeros(4, tf.float64))
        _, gradients, sums = tf.while_loop(
            lambda number, *_: number < whole, add, state, parallel_iterations=1, maximum_iterations=whole
        )
        if images > in_passes:
            rest, rest_sums = self._one_pass(pixels[in_passes:], labels[in_passes:])
            gradients = [total + each for total, each in zip(gradients, rest, strict=True)]
            sums = sums + rest_sums
        return gradients, sums

    def _one_pass(self, pixels: Any, labels: Any) -> tuple[list[Any], Any]:
        with tf.GradientTape() as tape:
            logits = self(pixels, training=True)
            loss, sums = sums_of_batch(logits, labels, self._recipe.label_smoothing)
            loss = loss / self._recipe.minibatch
        return tape.gradient(loss, [weight.value for weight in self.trainable_variables]), sums


def all_finite(gradients: list[Any]) -> Any:
    """Whether all numbers are finite.

    Args:
        gradients: dense tensors of one dtype.

    Returns:
        A boolean tensor.

    Example:
        >>> bool(all_finite([tf.ones(2), tf.constant([1e30])])), bool(all_finite([tf.constant([1.0, float("nan")])]))
        (True, False)
    """
    squares = tf.add_n([tf.nn.l2_loss(gradient) for gradient in gradients])

    def look_closely() -> Any:
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])

    # One pass in a fast kernel; the squares may overflow where every number is finite.
    return tf.cond(tf.math.is_finite(squares), lambda: tf.constant(True), look_closely)


def sums_of_batch(logits: Any, labels: Any, label_smoothing: float = 0.0) -> tuple[Any, Any]:
    """The differentiable sum of losses, and what is reported of a batch.

    Args:
        logits: (images, classes).
        labels: (images,) integers.
        label_smoothing: in the loss.

    Returns:
        Σ loss, and float64 [images, Σ loss, correct, correct among the top 5], the fields of Sums.

    Example:
        >>> loss, sums = sums_of_batch(tf.constant([[2.0, 0.0], [2.0, 0.0]]), tf.constant([0, 1]))
        >>> sums.numpy().round(3).tolist()
        [2.0, 2.254, 1.0, 2.0]
    """
    loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    if label_smoothing:
        of_all_classes = -tf.reduce_sum(tf.nn.log_softmax(logits)) / logits.shape[-1]
        loss = (1.0 - label_smoothing) * loss + label_smoothing * of_all_classes
    of_label = tf.gather(logits, labels[:, None], axis=1, batch_dims=1)
    # «not lower or equal» rather than «higher»: a logit that is no number must not count as correct.
    rank = tf.math.count_nonzero(tf.logical_not(logits <= of_label), axis=1)
    values = [
        tf.shape(logits)[0],
        tf.stop_gradient(loss),
        tf.math.count_nonzero(rank < 1),
        tf.math.count_nonzero(rank < 5),
    ]
    return loss, tf.stack([tf.cast(value, tf.float64) for value in values])


def build_network(recipe: Recipe, config: RunConfig, classes: int, local_workers: int) -> Network:
    """The network of a run with its initial weights.

    Args:
        recipe: model, seed and normalisation.
        config: dtype, mixed precision and workers_per_pass.
        classes: outputs.
        local_workers: virtual workers that this process runs in one iteration.

    Returns:
        The network, built.

    Example:
        >>> from pathlib import Path
        >>> recipe = Recipe(model="resnet8", minibatch=32, image_size_px=32, validation_resize_px=32)
        >>> network = build_network(recipe, RunConfig(Path("d")), 10, 1)
        >>> network(tf.zeros((32, 32, 32, 3), tf.uint8)).shape
        TensorShape([32, 10])
    """
    batch_norm = partial(PerWorkerBatchNormalization, recipe.per_worker, local_workers)
    policy = config.dtype if config.amp_dtype is None else f"mixed_{config.amp_dtype}"
    model = models.MODELS[recipe.model](num_classes=classes, batch_norm=batch_norm, dtype=policy)
    models.initialise(model, recipe.seed, recipe.zero_last_gamma)
    network = Network(model, recipe, config.workers_per_pass, config.dtype, bool(config.skip_nonfinite))
    network.build((None, recipe.image_size_px, recipe.image_size_px, 3))
    if recipe.model_ema_decay is not None:
        network.ema = ModelEma(model, recipe.model_ema_decay)
    return network
