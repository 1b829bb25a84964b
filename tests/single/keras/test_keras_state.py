"""Checkpoints out of and into Keras, and from one framework into the other."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from hvd_imagenet.errors import UserError
from hvd_imagenet.keras import models
from hvd_imagenet.keras.ema import ModelEma
from hvd_imagenet.keras.layers import PerWorkerBatchNormalization
from hvd_imagenet.keras.optimizers import SGD
from hvd_imagenet.keras.state import checkpoint_tensors, load_into, model_arrays, momentum_arrays, versions
from hvd_imagenet.keras.variables import copy_into, parameter_variables, to_numpy
from hvd_imagenet.torch import ema as torch_ema
from hvd_imagenet.torch import models as torch_models
from hvd_imagenet.torch import state as torch_state

NORM = partial(PerWorkerBatchNormalization, 2, 2)


def network(classes=3):
    return models.resnet8(num_classes=classes, batch_norm=NORM)


def torch_run(classes=3):
    model = torch_models.resnet8(num_classes=classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch_state.make_momentum_buffers(optimizer)
    ema = torch_ema.ModelEma(model, 0.9)
    return model, optimizer, ema


def random_tensors(seed=0):
    """Of every checkpoint key, of resnet8's names and shapes."""
    generator = np.random.default_rng(seed)
    empty = torch_state.checkpoint_tensors(*torch_run())
    return {
        key: {name: generator.normal(size=array.shape).astype("float32") for name, array in arrays.items()}
        for key, arrays in empty.items()
    }


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, arrays in wanted.items():
        assert found[key].keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[key][name], array, err_msg=name, strict=True)
            assert found[key][name].flags.c_contiguous


def test_torch_to_keras_to_torch_is_the_same_bit_for_bit():
    tensors = random_tensors()
    original = torch_run()
    torch_state.load_into(tensors, *original, "c")
    model, optimizer = network(), SGD(0.1, momentum=0.9)
    ema = ModelEma(model, 0.9)
    load_into(torch_state.checkpoint_tensors(*original), model, optimizer, ema, "c")
    found = checkpoint_tensors(model, optimizer, ema)
    assert_same(found, tensors)
    again = torch_run()
    torch_state.load_into(found, *again, "c")
    assert_same(torch_state.checkpoint_tensors(*again), tensors)


def test_what_is_taken_out_does_not_change_with_the_run():
    model, optimizer = network(), SGD(0.1, momentum=0.9)
    before = model_arrays(model)["fc.bias"], momentum_arrays(model, optimizer)["fc.bias"]
    parameter_variables(model)["fc.bias"].assign([1.0, 2.0, 3.0])
    optimizer.buffers[-1].assign([1.0, 2.0, 3.0])
    assert not before[0].any()
    assert not before[1].any()


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("rate", [0.25, 0.3])
def test_keras_sgd_keeps_velocity_and_checkpoints_hold_buffers(rate, scaled):
    tensors, model = random_tensors(), network()
    inner = keras.optimizers.SGD(rate, momentum=0.9)
    optimizer = keras.optimizers.LossScaleOptimizer(inner) if scaled else inner
    load_into(tensors, model, optimizer, None, "c")
    index = next(i for i, each in enumerate(model.trainable_variables) if each.path == "fc/kernel")
    velocity, buffer = inner.momentums[index].numpy(), tensors["momentum"]["fc.weight"]
    np.testing.assert_allclose(velocity, -rate * buffer.T, rtol=1e-6)
    for name, array in momentum_arrays(model, optimizer).items():
        np.testing.assert_allclose(array, tensors["momentum"][name], rtol=3e-7)


def test_momentum_without_history_is_zero():
    model, tensors = network(), random_tensors()
    stopped = keras.optimizers.SGD(0.5, momentum=0.9)
    load_into(tensors, model, stopped, None, "c")
    stopped.learning_rate = 0.0
    for optimizer in (stopped, SGD(0.1, momentum=0.9), SGD(0.1), keras.optimizers.SGD(0.1)):
        arrays = momentum_arrays(model, optimizer)
        assert {name: array.shape for name, array in arrays.items()} == {
            name: array.shape for name, array in tensors["momentum"].items()
        }
        assert not any(array.any() for array in arrays.values())
    load_into(tensors, model, SGD(0.1), None, "c")


def test_a_frozen_layer_has_no_momentum_but_a_place_for_it():
    model, tensors = network(), random_tensors()
    model.get_layer("conv1").trainable = False
    optimizer = SGD(0.1, momentum=0.9)
    load_into(tensors, model, optimizer, None, "c")
    arrays = momentum_arrays(model, optimizer)
    assert not arrays.pop("conv1.weight").any()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, tensors["momentum"][name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["model"].pop("fc.bias"), "c: it lacks the model's fc.bias; take the model it was made with"),
        (lambda t: t["model"].update(more=np.ones(1)), "c: the model has no more; take the model it was made with"),
        (lambda t: t["momentum"].pop("fc.weight"), "c: it lacks the model's fc.weight; take the model"),
        (lambda t: t.pop("model_ema"), "c: it lacks the model's bn1.bias; take the model"),
        (
            lambda t: t["model"].update({"fc.weight": np.ones((4, 64))}),
            r"c: fc.weight has shape \(4, 64\), the model wants \(3, 64\); take the model it was made with",
        ),
        (
            lambda t: t["momentum"].update({"conv1.weight": np.ones(1)}),
            r"conv1.weight has shape \(1,\), .*wants \(16, 3",
        ),
    ],
)
def test_what_does_not_fit_is_refused_as_in_pytorch(change, message):
    tensors = random_tensors()
    change(tensors)
    model = network()
    with pytest.raises(UserError, match=message):
        load_into(tensors, model, SGD(0.1, momentum=0.9), ModelEma(model, 0.9), "c")
    with pytest.raises(UserError, match=message):
        torch_state.load_into(tensors, *torch_run(), "c")


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (keras.optimizers.Adam(), "optimizer Adam has no momentum that a checkpoint can hold; take hvd_imagenet.keras"),
        (
            keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5), momentum=0.9),
            "learning_rate of keras.optimizers.SGD is a schedule",
        ),
    ],
)
def test_optimizers_without_a_known_momentum_are_refused(optimizer, message):
    with pytest.raises(UserError, match=message):
        momentum_arrays(network(), optimizer)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_running_average_is_that_of_pytorch(compiled):
    model, (original, _, peer) = network(), torch_run()
    ema = ModelEma(model, 0.9)
    update = tf.function(ema.update) if compiled else ema.update
    start = random_tensors(9)["model"]
    for variables, own in ((ema.variables, False), (ema._source, True)):
        copy_into(variables, start, "c")
        torch_state.copy_into(torch_state.model_tensors(original) if own else peer.tensors, start, "c")
    for seed in range(3):
        weights = random_tensors(seed)["model"]
        copy_into(ema._source, weights, "c")
        torch_state.copy_into(torch_state.model_tensors(original), weights, "c")
        update()
        peer.update()
    assert sorted(ema.averages) == sorted(peer.averages)
    found, wanted = to_numpy(ema.variables), torch_state.to_numpy(peer.tensors)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)
    ema.swap()
    np.testing.assert_array_equal(model_arrays(model)["fc.weight"], found["fc.weight"])
    np.testing.assert_array_equal(to_numpy(ema.variables)["fc.weight"], weights["fc.weight"])
    ema.swap()
    assert_same({"model": model_arrays(model)}, {"model": weights})


def test_versions_name_the_backend():
    assert versions()["tensorflow"] == tf.__version__
    assert versions()["keras"] == keras.__version__
