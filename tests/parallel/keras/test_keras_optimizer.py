"""Every optimizer of Keras on several ranks, against one process on the joined batch and against numpy alone."""

import functools
from collections.abc import Callable
from typing import Any

import keras_cases as cases
import numpy as np
import pytest
from keras_cases import adam, reference, rmsprop, sgd
from keras_ranks import run_keras_ranks

# Numbers that float32 holds exactly: Keras passes some of them through it, also where variables are float64.
OF_ADAM = {"learning_rate": 0.0625, "beta_1": 0.875, "beta_2": 0.984375, "epsilon": 2.0**-20}
OPTIMIZERS: dict[str, tuple[str, dict[str, Any], Callable[..., Any]]] = {
    "SGD": ("SGD", {"learning_rate": 0.25}, sgd(0.25)),
    "momentum": ("SGD", {"learning_rate": 0.125, "momentum": 0.875}, sgd(0.125, 0.875)),
    "Nesterov": (
        "SGD",
        {"learning_rate": 0.125, "momentum": 0.875, "nesterov": True},
        sgd(0.125, 0.875, nesterov=True),
    ),
    "Adam": ("Adam", OF_ADAM, adam(0.0625, 0.875, 0.984375)),
    "AdamW": ("AdamW", {**OF_ADAM, "weight_decay": 0.125}, adam(0.0625, 0.875, 0.984375, weight_decay=0.125)),
    "RMSprop": ("RMSprop", {"learning_rate": 0.0625, "rho": 0.875, "epsilon": 2.0**-20}, rmsprop(0.0625, 0.875)),
}


def train(dtype: str, names: list[str], tolerance: float, run_eagerly: bool = False) -> None:
    import keras

    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)  # Keras keeps the one of its first layer
    for name in names:
        kind, options, step = OPTIMIZERS[name]
        model, result = cases.distributed_and_alone(
            name, functools.partial(cases.optimizer, kind, **options), tolerance, run_eagerly=run_eagerly
        )
        cases.compare(f"{name}, numpy", result, reference(step), tolerance)
        assert all(value.dtype == dtype for value in result)
        assert int(model.optimizer.iterations) == cases.STEPS


def on_two_ranks() -> None:
    train("float64", list(OPTIMIZERS), tolerance=cases.tight())
    train("float64", list(OPTIMIZERS), tolerance=cases.tight(), run_eagerly=True)
    train("float32", ["Nesterov", "AdamW"], tolerance=1e-5)


def on_a_process_set() -> None:
    """Two of three ranks train first: what they have agreed on before differs from the third's, which then joins in."""
    import keras

    import hvd_imagenet.keras as hvd

    first_two = hvd.add_process_set([0, 1])
    if hvd.rank() < 2:
        model = cases.network(cases.problem()[2])
        model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(), process_set=first_two), loss="mse")
        cases.fit(model, lambda rows: rows, cases.BATCH)


def on_three_ranks() -> None:
    on_a_process_set()
    train("float64", ["Nesterov", "AdamW", "RMSprop"], tolerance=cases.tight())


@pytest.mark.parametrize(("processes", "function"), [(2, on_two_ranks), (3, on_three_ranks)])
def test_every_optimizer_is_the_one_of_a_single_process(processes: int, function: Callable[[], None]) -> None:
    run_keras_ranks(processes, function, HOROVOD_DYNAMIC_PROCESS_SETS="1")


def test_the_reference_s_gradient_is_the_derivative_of_its_loss() -> None:
    inputs, targets, weights = cases.problem()
    x, y = inputs[:4], targets[:4]

    def loss(w: cases.Arrays) -> float:
        return float(np.mean((np.tanh(x @ w[0] + w[1]) @ w[2] + w[3] - y) ** 2))

    for number, of_weight in enumerate(cases.gradient(weights, x, y)):
        for index in [(0,) * of_weight.ndim, (-1,) * of_weight.ndim]:
            sides = []
            for distance in (1e-6, -1e-6):
                moved = [each.copy() for each in weights]
                moved[number][index] += distance
                sides.append(loss(moved))
            np.testing.assert_allclose(of_weight[index], (sides[0] - sides[1]) / 2e-6, rtol=1e-6, atol=1e-8)
