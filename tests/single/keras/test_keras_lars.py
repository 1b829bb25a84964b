"""LARS in Keras against the core's formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from hvd_imagenet.core.lars import lars_gradient
from hvd_imagenet.core.momentum import State, pytorch_step
from hvd_imagenet.keras.optimizers import LARS, exclude_batch_norm, optimizer_of
from hvd_imagenet.recipes import Recipe

RATES = [0.1, 0.1, 0.2, 3.0, 0.0, 0.05, *np.linspace(0.4, 0.01, 14)]
DECAY, COEFFICIENT = 0.01, 0.02
SHAPES = ((2, 2, 3, 4), (4, 5), (5,))


@pytest.fixture
def float64():
    """η is kept in Keras' default float: for float64 that must be it."""
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.usefixtures("float64")
def test_twenty_steps_are_those_of_the_core(compiled, momentum, nesterov):
    generator = np.random.default_rng(0)
    states = [State(generator.normal(size=shape), np.zeros(shape)) for shape in SHAPES]
    variables = [keras.Variable(state.weights, dtype="float64") for state in states]
    optimizer = LARS(0.1, COEFFICIENT, momentum=momentum, nesterov=nesterov, l2_weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_list=variables[1:2])
    optimizer.build(variables)
    apply = tf.function(lambda grads: optimizer.apply(grads)) if compiled else optimizer.apply
    for rate in RATES:
        gradients = [generator.normal(size=shape) for shape in SHAPES]
        optimizer.learning_rate = rate
        apply([tf.constant(each) for each in gradients])
        states = [
            pytorch_step(state, lars_gradient(each, state.weights, decay, COEFFICIENT), rate, momentum, nesterov)
            for state, each, decay in zip(states, gradients, (DECAY, 0.0, DECAY), strict=True)
        ]
    for variable, state in zip(variables, states, strict=True):
        np.testing.assert_allclose(variable.numpy(), state.weights, rtol=1e-12, atol=1e-14)
    for buffer, state in zip(optimizer.buffers, states if momentum else [], strict=True):
        np.testing.assert_allclose(buffer.numpy(), state.momentum, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("zero", ["weights", "gradient", "both"])
def test_zeros_give_numbers(zero):
    weight = keras.Variable(np.zeros((2, 2)) if zero != "gradient" else np.ones((2, 2)))
    gradient = ops.zeros((2, 2)) if zero != "weights" else ops.ones((2, 2))
    LARS(0.5).apply([gradient], [weight])
    expected = -0.5 if zero == "weights" else float(zero == "gradient")
    assert weight.numpy().tolist() == [[expected] * 2] * 2


def test_it_is_saved_and_loaded(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(LARS(0.05, 0.1, momentum=0.9, nesterov=True, l2_weight_decay=1e-4), "mse")
    x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    losses = model.fit(x, x @ [[2.0], [-1.0]], epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert type(loaded) is LARS
    assert (loaded.trust_coefficient, loaded.momentum, loaded.l2_weight_decay) == (0.1, 0.9, 1e-4)


@pytest.mark.parametrize("on_batch_norm", [False, True])
@pytest.mark.parametrize("opt", ["sgd", "lars"])
def test_weight_decay_and_batch_norm(opt, on_batch_norm):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    recipe = Recipe(opt=opt, weight_decay=0.5, decay_batch_norm=on_batch_norm, momentum=0.8)
    optimizer = optimizer_of(recipe, model)
    assert [optimizer._use_weight_decay(each) for each in model.trainable_weights] == [True, True] + [on_batch_norm] * 2
    assert (type(optimizer).__name__, optimizer.momentum, optimizer.l2_weight_decay) == (opt.upper(), 0.8, 0.5)


def test_batch_norm_is_excluded_from_decay_but_is_never_scaled():
    model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    optimizer = LARS(1.0, l2_weight_decay=0.5)
    exclude_batch_norm(optimizer, model)
    optimizer.apply([ops.ones(2), ops.ones(2)], model.trainable_weights)
    assert [each.numpy().tolist() for each in model.trainable_weights] == [[0.0, 0.0], [-1.0, -1.0]]


def test_message():
    with pytest.raises(ValueError, match=r"^trust_coefficient must be above 0, not -1$"):
        LARS(0.1, trust_coefficient=-1)
