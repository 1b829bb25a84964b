"""Per-worker batch normalisation: statistics over n images, whatever the minibatch and the number of processes.

n is part of the objective (section 2.3); see hvd_imagenet.torch.batch_norm, whose rules these are: a virtual worker's
n images are normalised by themselves wherever the worker runs, and the running averages take one step an iteration,
r ← 0.9·r + 0.1·(1/k)·Σ_j stat_j over all k workers, with the mean of the workers' unbiased variances. Plain Keras
layers keep the biased variance, and that of the whole batch.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from hvd_imagenet.communicator import Communicator
from hvd_imagenet.core.minibatch import positive_integer
from hvd_imagenet.weights import torchvision_name

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


class _Normalised(NamedTuple):
    """What training needs of a batch; the sums are over its workers."""

    outputs: Any
    mean_sum: Any
    variance_sum: Any
    workers: Any


@keras.saving.register_keras_serializable(package="hvd_imagenet")
class PerWorkerBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation over n consecutive images of the batch at a time; channels come last.

    In evaluation it is plain batch normalisation. With TensorFlow in float32 it is fastest where the batch's size is
    known when the graph is made: batch a data set with drop_remainder=True.

    Args:
        per_worker: n, images over which statistics are taken.
        local_workers: virtual workers that this process runs in one iteration, if they come in several passes;
            None: every batch holds all of an iteration's.
        momentum: of the running averages, in Keras' convention: the part that is kept.
        epsilon: added to the variance.
        **options: of keras.layers.BatchNormalization; axis, synchronized and renorm must be left alone.

    Raises:
        ValueError: a number is not positive, or an option asks for other statistics.

    Example:
        >>> layer = PerWorkerBatchNormalization(per_worker=2)
        >>> images = np.array([1.0, 3.0, 10.0, 30.0], dtype="float32").reshape(4, 1)
        >>> np.asarray(layer(images, training=True)).round(3).ravel().tolist()
        [-1.0, 1.0, -1.0, 1.0]
    """

    def __init__(
        self,
        per_worker: int,
        local_workers: int | None = None,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        **options: Any,
    ) -> None:
        positive_integer("per_worker", per_worker)
        if local_workers is not None:
            positive_integer("local_workers", local_workers)
        for name, wanted in (("axis", -1), ("synchronized", False), ("renorm", False)):
            if options.get(name, wanted) != wanted:
                raise ValueError(f"{name} must be {wanted} for statistics over each worker, not {options[name]}")
        super().__init__(momentum=momentum, epsilon=epsilon, **options)
        self.per_worker = per_worker
        self.local_workers = local_workers

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes gamma, beta and the averages, and a counter where an iteration may come in several passes."""
        super().build(input_shape)
        self.workers_done = None
        if self.local_workers is not None and self.local_workers > 1:
            self.workers_done = self.add_weight(
                shape=(), initializer="zeros", dtype="int64", trainable=False, autocast=False, name="workers_done"
            )

    def compute_output_spec(self, inputs: Any, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        """(workers · n, …, channels) → the same shape; not traced, so the batch's size need not be known."""
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """(workers · n, …, channels) → the same shape."""
        if not (training and self.trainable):
            return super().call(inputs, training=False)
        if mask is not None:
            raise ValueError("mask must be None: statistics are over all images of a worker")
        self._check_batch(inputs.shape)
        images = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        fused = keras.backend.backend() == "tensorflow" and images.dtype == tf.float32
        if fused and len(images.shape) == 4 and images.shape[0] is not None:
            result = self._normalise_fused(images)
        else:
            result = self._normalise(images)
        self._average(result)
        return ops.cast(result.outputs, self.compute_dtype)

    def _check_batch(self, shape: tuple[int | None, ...]) -> None:
        batch, *places = shape[:-1]
        if batch is not None and (batch == 0 or batch % self.per_worker):
            raise ValueError(
                f"the batch must be a multiple of per_worker ({self.per_worker}) images in training, not {batch}"
            )
        if self.local_workers is not None and batch is not None and batch > self.per_worker * self.local_workers:
            raise ValueError(
                f"the batch must hold at most local_workers ({self.local_workers}) times per_worker "
                f"({self.per_worker}) images in training, not {batch}"
            )
        if self.per_worker == 1 and all(places_along == 1 for places_along in places):
            raise ValueError("a worker's batch must hold more than one value a channel in training: raise per_worker")

    def _normalise_fused(self, images: Any) -> _Normalised:
        # One kernel a worker, forward and backward: on 2 cores 1.1 to 2.5 times as fast as moments.
        # tf.nn's own wrapper raises an epsilon of 1e-5 to 1.001e-5.
        workers = images.shape[0] // self.per_worker
        channels = images.shape[-1]
        gamma = self.gamma if self.scale else tf.ones(channels)
        beta = self.beta if self.center else tf.zeros(channels)
        parts = [
            tf.raw_ops.FusedBatchNormV3(
                x=part, scale=ops.cast(gamma, "float32"), offset=ops.cast(beta, "float32"),
                mean=tf.zeros([0]), variance=tf.zeros([0]), epsilon=self.epsilon, is_training=True,
            )
            for part in (tf.split(images, workers) if workers > 1 else [images])
        ]  # fmt: skip
        outputs = tf.concat([part.y for part in parts], 0) if workers > 1 else parts[0].y
        means, variances = (
            tf.add_n([getattr(part, name) for part in parts]) for name in ("batch_mean", "batch_variance")
        )
        return _Normalised(outputs, means, variances, workers)

    def _normalise(self, images: Any) -> _Normalised:
        shape, dtype = ops.shape(images), images.dtype
        if shape[0] is not None and not isinstance(shape[0], int):
            message = f"the batch must be a multiple of per_worker ({self.per_worker}) images in training"
            with tf.control_dependencies([tf.debugging.assert_equal(shape[0] % self.per_worker, 0, message)]):
                images = tf.identity(images)
        values = self.per_worker
        for places in shape[1:-1]:
            values = values * places
        workers = shape[0] // self.per_worker
        of_workers = ops.reshape(images, (workers, values, shape[-1]))
        mean, biased = ops.moments(of_workers, axes=1, keepdims=True)
        scale = ops.rsqrt(biased + self.epsilon)
        if self.scale:
            scale = scale * ops.cast(self.gamma, dtype)
        outputs = (of_workers - mean) * scale
        if self.center:
            outputs = outputs + ops.cast(self.beta, dtype)
        bessel = ops.cast(values, dtype) / ops.cast(values - 1, dtype)
        return _Normalised(
            ops.reshape(outputs, shape), ops.sum(mean, (0, 1)), ops.sum(biased, (0, 1)) * bessel, workers
        )

    def _average(self, batch: _Normalised) -> None:
        dtype = self.moving_mean.dtype
        kept: Any = self.momentum
        workers = batch.workers if self.local_workers is None else self.local_workers
        if self.workers_done is not None:
            first_of_iteration = ops.cast(ops.equal(self.workers_done, 0), dtype)
            kept = 1.0 - (1.0 - self.momentum) * first_of_iteration
            self.workers_done.assign((self.workers_done + ops.cast(batch.workers, "int64")) % self.local_workers)
        share = (1.0 - self.momentum) / ops.cast(workers, dtype)  # ops.cast(0.1, …) would go through float32
        for average, summed in (
            (self.moving_mean, batch.mean_sum),
            (self.moving_variance, batch.variance_sum),
        ):
            average.assign(average * kept + share * ops.cast(ops.stop_gradient(summed), dtype))

    def get_config(self) -> dict[str, Any]:
        """Keras' options and the numbers of images and workers."""
        return {**super().get_config(), "per_worker": self.per_worker, "local_workers": self.local_workers}


def batch_normalisations(model: keras.Layer) -> list[keras.layers.BatchNormalization]:
    """The batch normalisation layers of a model, found by type, at any depth.

    Args:
        model: any, or a single layer.

    Returns:
        The layers themselves.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(name="bn1")])
        >>> [layer.name for layer in batch_normalisations(model)]
        ['bn1']
    """
    # `layers` would miss those inside a layer that is no model.
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def checkpoint_name(model: keras.Layer, variable: keras.Variable) -> str:
    """The name of a model's variable in a checkpoint.

    Args:
        model: its own name, which Keras puts before those of a Sequential's layers, is left out.
        variable: of a layer with torchvision's name; on the torch backend with hyphens for dots, see models.

    Returns:
        Torchvision's.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(name="bn1")])
        >>> [checkpoint_name(model, each) for each in model.trainable_weights]
        ['bn1.weight', 'bn1.bias']
    """
    path = variable.path.removeprefix(f"{model.name}/")
    return torchvision_name(path.replace("-", ".") if keras.backend.backend() == "torch" else path)


def running_averages(model: keras.Layer) -> dict[str, keras.Variable]:
    """The running means and variances of a model by torchvision's names.

    Args:
        model: any, built.

    Returns:
        The variables themselves.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(name="bn1")])
        >>> sorted(running_averages(model))
        ['bn1.running_mean', 'bn1.running_var']
    """
    return {
        checkpoint_name(model, variable): variable
        for layer in batch_normalisations(model)
        for variable in (layer.moving_mean, layer.moving_variance)
    }


def average_over_processes(averages: dict[str, keras.Variable], share: float, communicator: Communicator) -> None:
    """Replaces every process's running averages by the mean over all workers; call it on all processes together.

    Args:
        averages: of running_averages; changed in place.
        share: of the workers that this process runs, local workers / k; the shares of all processes sum to 1.
        communicator: the job's.

    Example:
        >>> from hvd_imagenet.communicator import SingleProcess
        >>> mean = keras.Variable([1.0, 1.0])
        >>> average_over_processes({"bn.running_mean": mean}, share=1.0, communicator=SingleProcess())
        >>> mean.numpy().tolist()
        [1.0, 1.0]
    """
    if communicator.size == 1 or not averages:
        return
    arrays = [variable.numpy().astype(np.float64) for variable in averages.values()]
    summed = communicator.sum(share * np.concatenate([array.ravel() for array in arrays]))
    ends = np.cumsum([array.size for array in arrays])
    for variable, part in zip(averages.values(), np.split(summed, ends[:-1]), strict=True):
        variable.assign(part.reshape(variable.shape))
