"""What Keras does to gradients, with gradients of all kinds, on two ranks against one process and numpy."""

import functools
from collections.abc import Callable
from typing import Any

import keras_cases as cases
import numpy as np
from keras_cases import Arrays, reference, sgd
from keras_ranks import run_keras_ranks

SGD = {"learning_rate": 0.25}


def by_norm(gradients: Arrays) -> Arrays:
    return [g * min(1.0, 0.125 / np.linalg.norm(g)) for g in gradients]


def by_value(gradients: Arrays) -> Arrays:
    return [np.clip(g, -0.03125, 0.03125) for g in gradients]


def by_global_norm(gradients: Arrays) -> Arrays:
    norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
    return [g * min(1.0, 0.125 / norm) for g in gradients]


def clipped() -> None:
    """The reduced gradient is clipped: the norm of one rank's is another."""
    ways: list[tuple[dict[str, float], Callable[[Arrays], Arrays]]] = [
        ({"clipnorm": 0.125}, by_norm),
        ({"clipvalue": 0.03125}, by_value),
        ({"global_clipnorm": 0.125}, by_global_norm),
    ]
    for options, clip in ways:
        make = functools.partial(cases.optimizer, "SGD", **SGD, **options)
        _, result = cases.distributed_and_alone(str(options), make, cases.tight())
        cases.compare(f"{options}, numpy", result, reference(sgd(0.25), clip), cases.tight())
        unclipped = reference(sgd(0.25))
        assert np.max(np.abs(result[0] - unclipped[0])) > 0.01, f"{options} did not clip"


def moving_average() -> None:
    """use_ema: the averages become the weights at the end of fit()."""
    averages: list[Arrays] = []
    reference(sgd(0.25), at_update=averages.append)
    expected = averages[0]
    for weights in averages[1:]:
        expected = [0.5 * average + 0.5 * weight for average, weight in zip(expected, weights, strict=True)]
    make = functools.partial(cases.optimizer, "SGD", **SGD, use_ema=True, ema_momentum=0.5)
    _, result = cases.distributed_and_alone("EMA", make, cases.tight())
    cases.compare("EMA, numpy", result, expected, cases.tight())


def accumulated() -> None:
    """Keras' own way is the mean over the passes, Horovod's the sum, or the mean where asked for."""
    import hvd_imagenet.keras as hvd

    updates = [[0, 1], [2, 3]]  # the fifth batch waits
    mean = reference(sgd(0.25, 0.875), updates=updates)
    total = reference(sgd(0.25, 0.875), clip=lambda gradients: [2 * g for g in gradients], updates=updates)
    for own, distribution, expected in [
        ({"gradient_accumulation_steps": 2}, {}, mean),
        ({}, {"backward_passes_per_step": 2}, total),
        ({}, {"backward_passes_per_step": 2, "average_aggregated_gradients": True}, mean),
    ]:
        for run_eagerly in (False, True):
            model = cases.network(cases.problem()[2])
            inner = cases.optimizer("SGD", **SGD, momentum=0.875, **own)
            model.compile(hvd.DistributedOptimizer(inner, **distribution), loss="mse", run_eagerly=run_eagerly)
            result = cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
            name = f"accumulation {own} {distribution}, eager: {run_eagerly}"
            cases.same_on_all_ranks(name, result)
            cases.compare(name, result, expected, cases.tight())


def frozen_and_unused() -> None:
    """A frozen layer, and a weight that no gradient reaches, stay as they are."""
    import keras

    import hvd_imagenet.keras as hvd

    class WithUnused(keras.layers.Dense):
        def build(self, shape: Any) -> None:
            super().build(shape)
            self.unused = self.add_weight(shape=(2,), initializer="ones", name="unused")

    def build() -> Any:
        start = cases.problem()[2]
        layers = [keras.layers.Dense(cases.HIDDEN, "tanh", trainable=False), WithUnused(cases.OUTPUTS)]
        model = keras.Sequential([keras.Input((cases.INPUTS,)), *layers])
        model.set_weights([start[0], start[1], start[2], start[3], np.ones(2)])
        return model

    alone, model = build(), build()
    alone.compile(cases.optimizer("SGD", **SGD, momentum=0.875), loss="mse")
    model.compile(hvd.DistributedOptimizer(cases.optimizer("SGD", **SGD, momentum=0.875)), loss="mse")
    expected = cases.fit(alone, lambda rows: rows, cases.BATCH)
    result = cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
    cases.same_on_all_ranks("frozen", result)
    cases.compare("frozen", result, expected, cases.tight())
    begin = build().get_weights()
    moved = {each.path: not np.array_equal(each, before) for each, before in zip(model.weights, begin, strict=True)}
    assert list(moved.values()) == [False, False, True, True, False], moved


def with_dense_gradients(optimizer: Any) -> None:
    """Keras does not add the rows of one index up before Adam squares them or clipnorm measures them."""
    import tensorflow as tf

    original = optimizer.apply

    def apply(grads: Any, trainable_variables: Any = None) -> None:
        original([tf.convert_to_tensor(gradient) for gradient in grads], trainable_variables)

    object.__setattr__(optimizer, "apply", apply)


def embedded() -> None:
    """Sparse gradients: rows of one rank alone, of both, and of neither."""
    import keras

    import hvd_imagenet.keras as hvd

    def build() -> Any:
        keras.utils.set_random_seed(3)
        layers = [keras.layers.Embedding(12, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
        return keras.Sequential([keras.Input((4,), dtype="int32"), *layers])

    random = np.random.default_rng(8)
    ids, targets = random.integers(0, 10, (24, 4)), random.normal(size=(24, 1))
    for kind, options in [
        ("SGD", SGD),
        ("SGD", {**SGD, "momentum": 0.875}),
        ("Adam", {}),
        ("SGD", {**SGD, "clipnorm": 0.1}),
    ]:
        for sparse_as_dense in (False, True):
            alone, model = build(), build()
            start = alone.get_weights()
            alone.compile(cases.optimizer(kind, **options), loss="mse")
            if sparse_as_dense:
                with_dense_gradients(alone.optimizer)
            model.compile(
                hvd.DistributedOptimizer(cases.optimizer(kind, **options), sparse_as_dense=sparse_as_dense), loss="mse"
            )
            alone.fit(ids, targets, batch_size=8, shuffle=False, verbose=0)
            mine = np.concatenate([np.arange(8 * b + 4 * hvd.rank(), 8 * b + 4 * hvd.rank() + 4) for b in range(3)])
            model.fit(ids[mine], targets[mine], batch_size=4, shuffle=False, verbose=0)
            name = f"Embedding, {kind} {options}, sparse_as_dense={sparse_as_dense}"
            cases.same_on_all_ranks(name, model.get_weights())
            cases.compare(name, model.get_weights(), alone.get_weights(), cases.tight())
            assert np.array_equal(model.get_weights()[0][10:], start[0][10:]), "a row moved that no one has asked for"


def gradients_of_all_kinds() -> None:
    import keras

    keras.config.set_floatx("float64")
    for case in (clipped, moving_average, accumulated, frozen_and_unused, embedded):
        case()


def test_gradients_are_reduced_before_keras_works_on_them() -> None:
    run_keras_ranks(2, gradients_of_all_kinds)
