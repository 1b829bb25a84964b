"""The Keras networks against the PyTorch ones, with the same weights."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from hvd_imagenet.core.initializers import initial_parameters
from hvd_imagenet.keras import models
from hvd_imagenet.keras.layers import PerWorkerBatchNormalization, running_averages
from hvd_imagenet.keras.state import model_arrays
from hvd_imagenet.keras.variables import copy_into, model_variables, parameter_variables, to_numpy
from hvd_imagenet.torch import convert_batch_norm
from hvd_imagenet.torch import models as torch_models
from hvd_imagenet.torch.state import model_tensors
from hvd_imagenet.torch.state import to_numpy as torch_to_numpy

COUNTS = {
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet20": 272_474,
    "resnet20x4": 4_327_754,
    "resnet8": 78_042,
    "resnet8_narrow": 19_954,
}
CLASSES = 7


def torch_network(name, dtype, seed=0):
    """With γ that are not zero, so that every layer matters, and averages unlike a new network's."""
    torch.manual_seed(seed)
    network = torch_models.MODELS[name](num_classes=CLASSES).to(getattr(torch, dtype))
    with torch.no_grad():
        for key, tensor in model_tensors(network).items():
            if key.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, dtype=torch.float64))
            elif tensor.dim() == 1:
                tensor.add_(0.2 * torch.randn(tensor.shape, dtype=torch.float64))
    return network


def keras_network(original, name, dtype, **options):
    network = models.MODELS[name](num_classes=CLASSES, dtype=dtype, **options)
    copy_into(model_variables(network), torch_to_numpy(model_tensors(original)), "PyTorch")
    return network


def images(count, height, width, dtype):
    return np.random.default_rng(1).normal(size=(count, height, width, 3)).astype(dtype)


def to_torch(x):
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def relative(found, wanted):
    return np.linalg.norm(np.asarray(found) - np.asarray(wanted)) / np.linalg.norm(np.asarray(wanted))


@pytest.mark.parametrize("name", COUNTS)
def test_names_shapes_and_numbers_are_those_of_pytorch(name):
    with torch.device("meta"):
        original = torch_models.MODELS[name]()
    network = models.MODELS[name]()
    parameters = parameter_variables(network)
    assert sum(int(np.prod(each.shape)) for each in network.trainable_weights) == COUNTS[name]
    assert {id(each) for each in network.trainable_weights} == {id(each) for each in parameters.values()}
    wanted = {key: tuple(tensor.shape) for key, tensor in model_tensors(original).items()}
    assert {key: array.shape for key, array in model_arrays(network).items()} == wanted
    assert network.output_shape == (None, 1000 if name in ("resnet50", "resnet101") else 10)
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(layer.momentum, layer.epsilon) for layer in norms} == {(0.9, 1e-5)}


@pytest.mark.parametrize(("name", "height", "width"), [
    ("resnet8", 32, 32), ("resnet8", 33, 30), ("resnet20", 31, 33), ("resnet20x4", 16, 18), ("resnet50", 77, 66),
    ("resnet101", 49, 64),
])  # fmt: skip
def test_logits_on_the_same_weights(name, height, width):
    original = torch_network(name, "float64").eval()
    x = images(2, height, width, "float64")
    with torch.no_grad():
        wanted = original(to_torch(x)).numpy()
    double = keras_network(original, name, "float64")
    assert relative(double(x, training=False), wanted) < 1e-12
    single = keras_network(original, name, "float32")
    assert relative(single(x.astype("float32"), training=False), wanted) < 1e-4


@pytest.mark.parametrize(
    ("name", "pixels", "n", "workers", "dtype"),
    [
        ("resnet8", 33, 8, 3, "float64"),
        ("resnet8", 32, 8, 1, "float32"),
        ("resnet20", 32, 8, 2, "float32"),
        ("resnet50", 48, 2, 2, "float64"),
        ("resnet50", 64, 4, 2, "float32"),
    ],
)
def test_the_first_step_s_gradients_and_averages(name, pixels, n, workers, dtype):
    # Float32 from a run's own initial weights: from others, PyTorch's float32 is up to 1e-2 away from its own float64
    # as well, wherever rounding takes a ReLU's input over zero.
    tolerance = {"float32": 1e-5, "float64": 1e-11}[dtype]
    original = torch_network(name, dtype)
    if dtype == "float32":
        torch_models.initialise(original, seed=0)
    network = keras_network(original, name, dtype, batch_norm=partial(PerWorkerBatchNormalization, n))
    convert_batch_norm(original, n, workers)
    x, labels = images(n * workers, pixels, pixels, dtype), np.arange(n * workers) % CLASSES
    loss = torch.nn.functional.cross_entropy(original(to_torch(x)), torch.from_numpy(labels))
    loss.backward()
    parameters = parameter_variables(network)

    def step(x):
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(labels, network(x, training=True), from_logits=True)
            value = tf.reduce_mean(losses)
        return value, tape.gradient(value, [each.value for each in parameters.values()])

    value, found = (step if name == "resnet50" else tf.function(step))(x)  # tracing would take the longest
    assert value.dtype == dtype
    assert float(value) == pytest.approx(loss.item(), rel=tolerance)
    gradients = to_numpy({key: keras.Variable(each, dtype=dtype) for key, each in zip(parameters, found, strict=True)})
    wanted = {key: parameter.grad.numpy() for key, parameter in original.named_parameters()}
    assert (
        relative(*(np.concatenate([each[key].ravel() for key in wanted]) for each in (gradients, wanted))) < tolerance
    )
    for key, average in to_numpy(running_averages(network)).items():
        assert relative(average, model_tensors(original)[key].numpy()) < tolerance


def test_initial_weights_are_the_core_s():
    network, again = models.resnet8(num_classes=CLASSES), models.resnet8(num_classes=CLASSES)
    models.initialise(network, seed=3)
    models.initialise(again, seed=3, zero_last_gamma=False)
    shapes = {key: tuple(each.shape) for key, each in torch_models.resnet8(num_classes=CLASSES).named_parameters()}
    for found, zero in ((model_arrays(network), True), (model_arrays(again), False)):
        for key, array in initial_parameters(shapes, 3, zero).items():
            np.testing.assert_array_equal(found[key], array.astype("float32"))


def test_a_network_is_saved_and_loaded_with_names_and_weights(tmp_path):
    network = models.resnet8(num_classes=CLASSES, batch_norm=partial(PerWorkerBatchNormalization, 4, 2))
    models.initialise(network, seed=1, zero_last_gamma=False)
    network(images(4, 32, 32, "float32"), training=True)
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert loaded.get_layer("layer2.0.downsample.1").per_worker == 4
    assert int(loaded.get_layer("bn1").workers_done.numpy()) == 1
    before, after = model_arrays(network), model_arrays(loaded)
    assert list(before) == list(after)
    for key, array in before.items():
        np.testing.assert_array_equal(array, after[key])
    x = images(3, 32, 32, "float32")
    np.testing.assert_array_equal(network(x), loaded(x))


def test_mixed_precision_normalises_in_float32():
    network = models.resnet8(batch_norm=partial(PerWorkerBatchNormalization, 2), dtype="mixed_bfloat16")
    single = models.resnet8(batch_norm=partial(PerWorkerBatchNormalization, 2), dtype="float32")
    for each in (network, single):
        models.initialise(each, seed=0)
    x = images(4, 32, 32, "float32")
    logits = network(x, training=True)
    assert logits.dtype == "bfloat16"
    assert {keras.backend.standardize_dtype(each.dtype) for each in network.weights} == {"float32"}
    assert relative(tf.cast(logits, "float32"), single(x, training=True)) < 0.1
