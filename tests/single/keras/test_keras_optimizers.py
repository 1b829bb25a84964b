"""Momentum SGD in PyTorch's form against the core's formula and torch.optim.SGD."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from hvd_imagenet.core.momentum import State, l2_gradient, pytorch_step
from hvd_imagenet.keras.layers import PerWorkerBatchNormalization
from hvd_imagenet.keras.optimizers import SGD, exclude_batch_norm, innermost

RATES = [0.1, 0.1, 0.2, 0.3, 0.3, 0.0, 0.05, *np.linspace(0.4, 0.01, 13)]
DECAY = 0.01


@pytest.fixture
def float64():
    """η is kept in Keras' default float: for float64 that must be it."""
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


def problem(dtype="float64"):
    generator = np.random.default_rng(0)
    start = [generator.normal(size=shape).astype(dtype) for shape in ((4, 3), (3,))]
    gradients = [[generator.normal(size=each.shape).astype(dtype) for each in start] for _ in RATES]
    return start, gradients


def train(optimizer, start, gradients, compiled, rates=RATES):
    variables = [keras.Variable(each, dtype=each.dtype) for each in start]
    optimizer.build(variables)
    apply = tf.function(lambda grads: optimizer.apply(grads)) if compiled else optimizer.apply
    for rate, grads in zip(rates, gradients, strict=True):
        optimizer.learning_rate = rate
        apply([tf.constant(each) for each in grads])
    return variables


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.usefixtures("float64")
def test_twenty_steps_are_those_of_the_core_and_of_pytorch(compiled, momentum, nesterov):
    start, gradients = problem()
    optimizer = SGD(0.1, momentum=momentum, nesterov=nesterov, l2_weight_decay=DECAY)
    found = train(optimizer, start, gradients, compiled)
    parameters = [torch.nn.Parameter(torch.from_numpy(each.copy())) for each in start]
    peer = torch.optim.SGD(parameters, lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=DECAY)
    states = [State(each, np.zeros_like(each)) for each in start]
    for rate, grads in zip(RATES, gradients, strict=True):
        peer.param_groups[0]["lr"] = rate
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = torch.from_numpy(grad)
        peer.step()
        states = [
            pytorch_step(state, l2_gradient(grad, state.weights, DECAY), rate, momentum, nesterov)
            for state, grad in zip(states, grads, strict=True)
        ]
    for variable, state, parameter in zip(found, states, parameters, strict=True):
        np.testing.assert_allclose(variable.numpy(), state.weights, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(variable.numpy(), parameter.detach().numpy(), rtol=1e-13, atol=1e-14)
    for buffer, state in zip(optimizer.buffers, states if momentum else [], strict=True):
        np.testing.assert_allclose(buffer.numpy(), state.momentum, rtol=1e-13, atol=1e-14)
    assert not hasattr(optimizer, "momentums")


def test_decay_comes_after_clipping_and_spares_what_is_excluded():
    start = [np.array([3.0], "float32"), np.array([3.0], "float32")]
    optimizer = SGD(1.0, momentum=0.5, l2_weight_decay=0.5, clipvalue=0.25)
    variables = [keras.Variable(each) for each in start]
    optimizer.exclude_from_weight_decay(var_list=variables[1:])
    optimizer.apply([tf.constant([9.0]), tf.constant([9.0])], variables)
    assert [each.numpy().item() for each in variables] == [3 - (0.25 + 1.5), 3 - 0.25]


@pytest.mark.parametrize("optimizer", [SGD(0.1, l2_weight_decay=1.0), keras.optimizers.AdamW()])
@pytest.mark.parametrize("scaled", [False, True])
def test_batch_norm_is_excluded_by_layer_type(optimizer, scaled):
    block = keras.Sequential([keras.layers.Dense(2, name="a"), keras.layers.BatchNormalization(scale=False, name="b")])
    model = keras.Sequential([keras.Input((4,)), block, PerWorkerBatchNormalization(2, name="norm")])
    outer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
    exclude_batch_norm(outer, model)
    assert innermost(outer) is optimizer
    used = {each.path.split("/", 1)[-1]: optimizer._use_weight_decay(each) for each in model.trainable_weights}
    assert {name.rpartition("/")[2] for name, decays in used.items() if decays} == {"kernel", "bias"}
    assert len(used) == 5


def test_accumulation_and_sparse_gradients():
    table = keras.Variable(np.ones((3, 2), "float32"))
    optimizer = SGD(1.0, momentum=0.5, gradient_accumulation_steps=2)
    optimizer.build([table])

    @tf.function
    def apply(gradient):
        optimizer.apply([gradient])

    for _ in range(4):
        apply(tf.convert_to_tensor(tf.IndexedSlices(tf.ones((1, 2)), tf.constant([1]), tf.constant([3, 2]))))
    np.testing.assert_array_equal(table.numpy()[:, 0], [1, 1 - 1 - 1.5, 1])
    plain = SGD(1.0, momentum=0.5)
    plain.apply([tf.IndexedSlices(tf.ones((2, 2)), tf.constant([1, 1]), tf.constant([3, 2]))], [table])
    np.testing.assert_array_equal(table.numpy()[:, 0], [1, -3.5, 1])


def test_it_trains_in_fit_and_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(SGD(0.05, momentum=0.9, nesterov=True, l2_weight_decay=1e-4), "mse")
    x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    losses = model.fit(x, x @ [[2.0], [-1.0]], epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 1e-2 * losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert type(loaded) is SGD
    assert (loaded.momentum, loaded.nesterov, loaded.l2_weight_decay) == (0.9, True, 1e-4)
    for a, b in zip(loaded.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), not 1.0"),
        ({"nesterov": True}, "nesterov must be False without momentum"),
        ({"l2_weight_decay": -1.0}, "l2_weight_decay must be 0 or more, not -1.0"),
        ({"weight_decay": 0.1}, "weight_decay must be None, not 0.1: here λ is l2_weight_decay"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        SGD(0.1, **options)


ON_TORCH = """
import keras, numpy as np, torch
from hvd_imagenet.keras.layers import PerWorkerBatchNormalization
from hvd_imagenet.keras.models import initialise, resnet8
from hvd_imagenet.keras.optimizers import SGD, exclude_batch_norm
from hvd_imagenet.keras.state import model_arrays, momentum_arrays
import sys
assert "tensorflow" not in sys.modules
start, gradients = np.ones((2, 2), "float32"), np.random.default_rng(0).normal(size=(20, 2, 2)).astype("float32")
variable, parameter = keras.Variable(start), torch.nn.Parameter(torch.from_numpy(start.copy()))
ours = SGD(0.1, momentum=0.9, nesterov=True, l2_weight_decay=0.01)
peer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
for step, gradient in enumerate(gradients):
    ours.build([variable])
    ours.learning_rate = peer.param_groups[0]["lr"] = 0.1 / (1 + step)
    parameter.grad = torch.from_numpy(gradient)
    with torch.no_grad():
        ours.apply([torch.from_numpy(gradient).to(variable.value.device)])
    peer.step()
np.testing.assert_allclose(variable.numpy(), parameter.detach().numpy(), rtol=1e-5)
model = resnet8(batch_norm=lambda **options: PerWorkerBatchNormalization(4, 2, **options))
initialise(model, seed=0)
optimizer = SGD(0.1, momentum=0.9, l2_weight_decay=1e-4)
exclude_batch_norm(optimizer, model)
model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
x = np.random.default_rng(0).normal(size=(16, 16, 16, 3)).astype("float32")
losses = model.fit(x, np.arange(16) % 10, batch_size=4, epochs=3, verbose=0).history["loss"]
assert losses[-1] < losses[0], losses
assert all(np.isfinite(array).all() for array in [*model_arrays(model).values()])
assert any(array.any() for array in momentum_arrays(model, optimizer).values())
"""


def test_the_torch_backend_takes_the_same_steps():
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    result = subprocess.run([sys.executable, "-c", ON_TORCH], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
