"""Per-worker batch normalisation against numpy and against the PyTorch layer."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch import nn

from hvd_imagenet.communicator import SingleProcess
from hvd_imagenet.keras.layers import PerWorkerBatchNormalization, average_over_processes, running_averages
from hvd_imagenet.torch import convert_batch_norm

N, WORKERS, CHANNELS = 3, 4, 5
GAMMA, BETA = np.linspace(0.5, 1.5, CHANNELS), np.linspace(-1, 1, CHANNELS)


def make(shape, dtype="float64", **options):
    layer = PerWorkerBatchNormalization(N, dtype=dtype, **options)
    layer.build((None, *shape, CHANNELS))
    layer.gamma.assign(GAMMA), layer.beta.assign(BETA)
    return layer


def images(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).gamma(2.0, size=(WORKERS * N, *shape, CHANNELS)).astype(dtype)


def expected(x, eps=1e-5):
    """Output, and mean and unbiased variance over each worker's images, by numpy."""
    of_workers = x.astype("float64").reshape(WORKERS, -1, CHANNELS)
    mean, biased = of_workers.mean(1, keepdims=True), of_workers.var(1, keepdims=True)
    output = (of_workers - mean) / np.sqrt(biased + eps) * GAMMA + BETA
    return output.reshape(x.shape), of_workers.mean(1), of_workers.var(1, ddof=1)


@pytest.mark.parametrize("way", ["eager", "graph", "graph of any batch", "while loop"])
@pytest.mark.parametrize("shape", [(2, 1), (4,), ()])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 3e-6)])
def test_statistics_are_those_of_each_worker(way, shape, dtype, tolerance):
    layer = make(shape, dtype)
    batch = None if way == "graph of any batch" else WORKERS * N
    calls = {
        "eager": lambda x: layer(x, training=True),
        "while loop": lambda x: tf.while_loop(
            lambda i, _: i < 1, lambda i, _: (i + 1, layer(x, training=True)), (0, tf.zeros_like(x))
        )[1],
    }
    call = calls.get(way, calls["eager"])
    if way != "eager":
        call = tf.function(call, input_signature=[tf.TensorSpec((batch, *shape, CHANNELS), dtype)])
    mean, variance = np.zeros(CHANNELS), np.ones(CHANNELS)
    for iteration in range(3):
        x = images(*shape, seed=iteration, dtype=dtype)
        output, means, variances = expected(x)
        np.testing.assert_allclose(call(tf.constant(x)).numpy(), output, rtol=tolerance, atol=tolerance)
        mean, variance = 0.9 * mean + 0.1 * means.mean(0), 0.9 * variance + 0.1 * variances.mean(0)
    assert layer.workers_done is None
    np.testing.assert_allclose(layer.moving_mean.numpy(), mean, rtol=tolerance)
    np.testing.assert_allclose(layer.moving_variance.numpy(), variance, rtol=tolerance)


@pytest.mark.parametrize("workers_per_pass", [1, 2, 3, 4])
@pytest.mark.parametrize("compiled", [False, True])
def test_an_iteration_in_several_passes_is_that_of_the_pytorch_layer(workers_per_pass, compiled):
    layer, original = make((2, 2), local_workers=WORKERS), nn.BatchNorm2d(CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        original.weight.copy_(torch.from_numpy(GAMMA)), original.bias.copy_(torch.from_numpy(BETA))
    norm = convert_batch_norm(original, N, WORKERS)
    call = tf.function(lambda x: layer(x, training=True)) if compiled else lambda x: layer(x, training=True)
    for iteration in range(3):
        x = images(2, 2, seed=iteration)
        for start in range(0, WORKERS * N, workers_per_pass * N):
            part = x[start : start + workers_per_pass * N]
            found = call(part).numpy()
            wanted = norm(torch.from_numpy(part).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    assert int(layer.workers_done.numpy()) == 0
    np.testing.assert_allclose(layer.moving_mean.numpy(), norm.running_mean.numpy(), rtol=1e-14)
    np.testing.assert_allclose(layer.moving_variance.numpy(), norm.running_var.numpy(), rtol=1e-14)


def test_the_variance_is_the_mean_of_the_workers_and_not_that_of_their_union():
    # Two workers of two images of one pixel: variances 2 and 8, that of the union 166/3.
    layer = PerWorkerBatchNormalization(2, dtype="float64")
    layer(np.array([1.0, 3.0, 11.0, 15.0]).reshape(4, 1, 1, 1), training=True)
    assert layer.moving_mean.numpy().item() == pytest.approx(0.1 * (2.0 + 13.0) / 2, rel=1e-14)
    assert layer.moving_variance.numpy().item() == pytest.approx(0.9 + 0.1 * (2.0 + 8.0) / 2, rel=1e-14)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 1e-4)])
def test_gradients_are_those_of_the_pytorch_layer(dtype, tolerance):
    x, original = images(2, 2, dtype=dtype), nn.BatchNorm2d(CHANNELS, dtype=getattr(torch, dtype))
    with torch.no_grad():
        original.weight.copy_(torch.from_numpy(GAMMA)), original.bias.copy_(torch.from_numpy(BETA))
    norm, y = convert_batch_norm(original, N, WORKERS), torch.from_numpy(x).requires_grad_()
    (norm(y.permute(0, 3, 1, 2)) ** 3).sum().backward()
    layer = make((2, 2), dtype)
    with tf.GradientTape() as tape:
        z = tf.constant(x)
        tape.watch(z)
        value = tf.reduce_sum(layer(z, training=True) ** 3)
    found = tape.gradient(value, [z, layer.gamma.value, layer.beta.value])
    for a, b in zip(found, (y.grad, original.weight.grad, original.bias.grad), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_passes_in_a_while_loop_with_their_gradients(dtype):
    x = tf.constant(images(2, 2, dtype=dtype))
    looped, whole = make((2, 2), dtype, local_workers=WORKERS), make((2, 2), dtype)

    def gradient(layer, part):
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(layer(part, training=True) ** 3)
        return tape.gradient(value, layer.gamma.value)

    @tf.function
    def passes(x):
        def body(index, total):
            return index + 1, total + gradient(
                looped, tf.ensure_shape(x[index * N : (index + 1) * N], (N, *x.shape[1:]))
            )

        return tf.while_loop(lambda index, _: index < WORKERS, body, (0, tf.zeros(CHANNELS, dtype)))[1]

    tolerance = {"float32": 1e-4, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(passes(x).numpy(), gradient(whole, x).numpy(), rtol=tolerance)
    assert int(looped.workers_done.numpy()) == 0
    for name, average in running_averages(looped).items():
        np.testing.assert_allclose(average.numpy(), running_averages(whole)[name].numpy(), rtol=tolerance)


def test_evaluation_takes_any_number_of_images_and_changes_nothing():
    layer, plain = make((2, 2)), keras.layers.BatchNormalization(epsilon=1e-5, dtype="float64")
    layer(images(2, 2), training=True)
    plain.build((None, 2, 2, CHANNELS))
    plain.set_weights(layer.get_weights())
    x = images(2, 2)[:7]
    np.testing.assert_array_equal(layer(x), plain(x))
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), plain(x))
    for a, b in zip(layer.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_gamma_or_beta(options, dtype):
    layer = PerWorkerBatchNormalization(N, dtype=dtype, **options)
    x = images(2, 2, dtype=dtype)
    wanted = (expected(x)[0] - BETA) / GAMMA
    np.testing.assert_allclose(layer(x, training=True).numpy(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4, 2, 2, 5), {}, "must be a multiple of per_worker (3) images in training, not 4"),
        ((0, 2, 2, 5), {}, "must be a multiple of per_worker (3) images in training, not 0"),
        ((9, 5), {"local_workers": 2}, "at most local_workers (2) times per_worker (3) images in training, not 9"),
    ],
)
def test_batches_that_do_not_fit_are_refused(shape, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PerWorkerBatchNormalization(N, **options)(np.zeros(shape, "float32"), training=True)


def test_one_value_a_channel_has_no_variance():
    with pytest.raises(ValueError, match="more than one value a channel in training"):
        PerWorkerBatchNormalization(1)(np.zeros((4, 1, 1, 2), "float32"), training=True)


def test_a_batch_of_unknown_size_that_does_not_fit_is_refused_when_it_comes():
    layer = make((2,), "float32")
    call = tf.function(
        lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((None, 2, CHANNELS), "float32")]
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape("a multiple of per_worker (3) images")):
        call(tf.zeros((4, 2, CHANNELS)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_worker": 0}, "per_worker must be an integer of 1 or more"),
        ({"per_worker": 2, "local_workers": 1.5}, "local_workers must be an integer of 1 or more"),
        ({"per_worker": 2, "axis": 1}, "axis must be -1 for statistics over each worker, not 1"),
        ({"per_worker": 2, "synchronized": True}, "synchronized must be False"),
        ({"per_worker": 2, "renorm": True}, "renorm must be False"),
    ],
)
def test_options_that_ask_for_other_statistics_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PerWorkerBatchNormalization(**options)


def test_masks_are_refused():
    with pytest.raises(ValueError, match="mask must be None"):
        make((2,)).call(images(2), training=True, mask=np.ones((12, 2), bool))


def test_fit_trains_and_evaluates_with_it():
    model = keras.Sequential([keras.Input((4,)), PerWorkerBatchNormalization(8, name="bn"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.random.default_rng(0).normal(3.0, size=(64, 4)).astype("float32")
    model.fit(x, x[:, :1], batch_size=16, epochs=20, verbose=0)
    averages = running_averages(model)
    assert sorted(averages) == ["bn.running_mean", "bn.running_var"]
    assert abs(averages["bn.running_mean"].numpy() - 3).max() < 0.5
    assert model.evaluate(x, x[:, :1], verbose=0) < 1.0
    clone = PerWorkerBatchNormalization.from_config(model.get_layer("bn").get_config())
    assert (clone.per_worker, clone.local_workers, clone.momentum, clone.epsilon) == (8, None, 0.9, 1e-5)


class OneOfTwo(SingleProcess):
    """The other process has all averages 1, and three quarters of the workers."""

    size = 2

    def sum(self, values):
        return values + 0.75


def test_processes_average_by_their_share():
    averages = {"a": keras.Variable([[1.0, 3.0]]), "b": keras.Variable(5.0)}
    average_over_processes(averages, 0.25, OneOfTwo())
    assert averages["a"].numpy().tolist() == [[1.0, 1.5]]
    assert averages["b"].numpy() == 2.0
