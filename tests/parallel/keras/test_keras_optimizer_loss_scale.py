"""A gradient that overflows on one rank: all ranks skip the step, whoever made the LossScaleOptimizer."""

from typing import Any

import keras_cases as cases
import numpy as np
from keras_cases import reference, sgd
from keras_ranks import run_keras_ranks

SCALE = 16.0
OVERFLOWS = 2  # the batch


def rows_with_overflow() -> tuple[np.ndarray, np.ndarray]:
    import hvd_imagenet.keras as hvd

    inputs, targets, _ = cases.problem()
    targets = cases.own_rows(targets)
    if hvd.rank() == 1:
        targets[OVERFLOWS * cases.BATCH // hvd.size(), 0] = np.inf
    return cases.own_rows(inputs), targets


def train(name: str, optimizer: Any, expected: cases.Arrays, tolerance: float, **options: Any) -> Any:
    import hvd_imagenet.keras as hvd

    inputs, targets = rows_with_overflow()
    model = cases.network(cases.problem()[2])
    model.compile(optimizer, loss="mse", **options)
    model.fit(inputs, targets, batch_size=cases.BATCH // hvd.size(), shuffle=False, verbose=0)
    result = cases.weights_of(model)
    cases.same_on_all_ranks(name, result)
    cases.compare(name, result, expected, tolerance)
    outer = model.optimizer
    assert type(outer).__name__ == "LossScaleOptimizer"
    assert float(outer.dynamic_scale) == SCALE / 2, f"{name}: the scale is {float(outer.dynamic_scale)}"
    return model


def overflow_on_one_rank() -> None:
    import keras

    import hvd_imagenet.keras as hvd

    keras.config.set_floatx("float64")
    scaled = keras.optimizers.LossScaleOptimizer
    expected = reference(sgd(0.25, 0.875), updates=[[0], [1], [3], [4]])

    def inner(**options: Any) -> Any:
        return cases.optimizer("SGD", learning_rate=0.25, momentum=0.875, **options)

    for eager in (False, True):
        around = hvd.DistributedOptimizer(scaled(inner(), initial_scale=SCALE))
        train("hook around it", around, expected, cases.tight(), run_eagerly=eager)
        within = scaled(hvd.DistributedOptimizer(inner()), initial_scale=SCALE)
        model = train("hook within it", within, expected, cases.tight(), run_eagerly=eager)
        assert int(model.optimizer.iterations) == cases.STEPS - 1
    first = inner()
    made_before = scaled(first, initial_scale=SCALE)
    hvd.DistributedOptimizer(first)
    train("the inner one distributed afterwards", made_before, expected, cases.tight())

    # The third micro-step is skipped; the passes that count are 0 and 1, 3 and 4.
    accumulated = reference(sgd(0.25, 0.875), updates=[[0, 1], [3, 4]])
    for eager in (False, True):
        way = inner(gradient_accumulation_steps=2)
        way = hvd.DistributedOptimizer(scaled(way, initial_scale=SCALE))
        train("Keras' accumulation", way, accumulated, cases.tight(), run_eagerly=eager)
    way = scaled(inner(), initial_scale=SCALE)
    way = hvd.DistributedOptimizer(way, backward_passes_per_step=2, average_aggregated_gradients=True)
    train("Horovod's accumulation", way, accumulated, cases.tight())


def mixed_precision() -> None:
    """compile() makes the LossScaleOptimizer itself; it begins at 2^15 and must come down on every rank alike."""
    import keras

    import hvd_imagenet.keras as hvd

    keras.config.set_dtype_policy("mixed_float16")
    inputs, targets = rows_with_overflow()
    for passes in ({}, {"gradient_accumulation_steps": 2}):
        model = cases.network(cases.problem()[2])
        model.compile(hvd.DistributedOptimizer(cases.optimizer("SGD", learning_rate=0.25, **passes)), loss="mse")
        assert type(model.optimizer).__name__ == "LossScaleOptimizer"
        model.fit(inputs, targets, batch_size=cases.BATCH // hvd.size(), epochs=3, shuffle=False, verbose=0)
        result = cases.weights_of(model)
        cases.same_on_all_ranks("mixed precision", [*result, np.asarray(model.optimizer.dynamic_scale)])
        assert all(np.isfinite(value).all() for value in result)
        skipped = 3 * cases.STEPS - int(model.optimizer.inner_optimizer._iterations)
        assert skipped >= 3, skipped
        assert float(model.optimizer.dynamic_scale) == 2.0**15 / 2**skipped
        assert not np.array_equal(result[0], cases.problem()[2][0])


def every_overflow() -> None:
    overflow_on_one_rank()
    mixed_precision()


def test_all_ranks_skip_a_step_that_overflows_on_one() -> None:
    run_keras_ranks(2, every_overflow)
