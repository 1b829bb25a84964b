"""η of every iteration: the callbacks' plans against hand-computed numbers, and Horovod's formulas beside them."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.core.schedules import gradual_warmup
from hvd_imagenet.keras.callbacks import (
    LearningRateSchedule,
    LearningRateScheduleCallback,
    LearningRateWarmupCallback,
)

NAN = math.nan


def rates(callbacks, epochs, steps, size=8, execution=1, rate=NAN):
    """η of every iteration as the callbacks of a list leave it; `rate` before the first is set."""
    of_iterations = []
    for callback in callbacks:
        callback._steps = callback.steps_per_epoch or steps
        callback._communicator = SimpleNamespace(size=size, rank=0)
    for epoch in epochs:
        for batch in range(0, steps, execution):
            plan = [None] * execution
            for callback in callbacks:
                callback.on_epoch_begin(epoch)
                callback._optimizer = SimpleNamespace(learning_rate=rate)
                plan = callback.plan(batch, plan)
            for planned in plan[: steps - batch]:
                rate = rate if planned is None or math.isnan(planned) else planned
                of_iterations.append(rate)
    return of_iterations


def horovods_constant(multiplier, epoch, start_epoch):
    return multiplier ** (epoch - start_epoch)


def horovods_warmup(epoch, steps, size, warmup_epochs):
    epoch += 1.0 / steps
    return 1.0 / size * (epoch * (size - 1) / warmup_epochs + 1)


def test_a_constant_multiplier_stays_constant():
    decays = [
        LearningRateScheduleCallback(0.8, 1.0, start_epoch=0, end_epoch=3),
        LearningRateScheduleCallback(0.8, 0.1, start_epoch=3, end_epoch=6),
        LearningRateScheduleCallback(0.8, 0.01, start_epoch=6),
    ]
    expected = np.repeat([0.8, 0.08, 0.008], 6)
    np.testing.assert_allclose(rates(decays, range(9), steps=2), expected, rtol=1e-15)
    # Horovod's has no decay at its first epoch, and ten times too much after each other one.
    assert [round(0.8 * horovods_constant(0.1, epoch, 3), 6) for epoch in (3, 4, 5)] == [0.8, 0.08, 0.008]


@pytest.mark.parametrize("warmup_epochs", [0, 0.3, 1, 2.5, 3])
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_warmup_is_linear_in_iterations_and_ends_exactly(warmup_epochs, steps):
    found = rates([LearningRateWarmupCallback(0.8, warmup_epochs)], range(5), steps)
    warmup = gradual_warmup(0.1, 0.8, warmup_epochs)
    np.testing.assert_allclose(found, [warmup(iteration / steps) for iteration in range(5 * steps)], rtol=1e-14)
    over = math.ceil(warmup_epochs * steps)
    assert found[over:] == [0.8] * (5 * steps - over)
    assert max(found) == 0.8


def test_horovods_fractional_warmup_overshoots():
    last = horovods_warmup(2 + 9 / 10, steps=10, size=8, warmup_epochs=2.5)
    assert last == pytest.approx(1.175)
    assert horovods_warmup(0, steps=10, size=8, warmup_epochs=2.5) > 1 / 8
    assert max(rates([LearningRateWarmupCallback(1.0, 2.5)], range(3), steps=10)) == 1.0


@pytest.mark.parametrize("execution", [1, 3, 4])
@pytest.mark.parametrize("warmup_first", [True, False])
def test_warmup_and_decays_as_in_horovods_examples(execution, warmup_first):
    warmup = LearningRateWarmupCallback(0.8, 2.5)
    decays = [
        LearningRateScheduleCallback(0.8, multiplier, start_epoch=start, end_epoch=end)
        for multiplier, start, end in ((1.0, 2.5, 4), (0.1, 4, 6), (0.01, 6, None))
    ]
    callbacks = [warmup, *decays] if warmup_first else [*decays, warmup]
    expected = [0.1 + 0.7 * iteration / 10 for iteration in range(10)] + [0.8] * 6 + [0.08] * 8 + [0.008] * 8
    np.testing.assert_allclose(rates(callbacks, range(8), steps=4, execution=execution), expected, rtol=1e-14)


def test_a_later_callback_wins_inside_its_own_epochs_only():
    ramp = LearningRateScheduleCallback(1.0, lambda epoch: 1 + epoch, staircase=False)
    flat = LearningRateScheduleCallback(1.0, 9.0, start_epoch=1, end_epoch=2)
    assert rates([ramp, flat], range(3), steps=2) == [1.0, 1.5, 9.0, 9.0, 3.0, 3.5]
    assert rates([flat, ramp], range(3), steps=2) == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]


def test_the_end_of_warmup_does_not_override_what_another_callback_sets():
    low = LearningRateScheduleCallback(0.8, 0.5, start_epoch=1)
    assert rates([low, LearningRateWarmupCallback(0.8, 1)], range(1, 3), steps=2) == [0.4] * 4
    # … and lets alone what Keras' own have set: 0.45 is what warmup leaves.
    assert rates([LearningRateWarmupCallback(0.8, 1)], range(1, 3), steps=2, rate=0.45) == [0.8] * 4
    assert rates([LearningRateWarmupCallback(0.8, 1)], range(1, 3), steps=2, rate=0.02) == [0.02] * 4
    assert np.isnan(rates([LearningRateWarmupCallback(0.8, 1)], range(2, 4), steps=2)).all()


@pytest.mark.parametrize(
    ("staircase", "expected"),
    [(True, [NAN, NAN, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3]), (False, [NAN, NAN, 0.2, 0.25, 0.3, 0.35, 0.35, 0.35])],
)
def test_the_end_is_exclusive_and_leaves_the_rate(staircase, expected):
    callback = LearningRateScheduleCallback(0.1, lambda epoch: epoch + 1, 1, 3, staircase)
    np.testing.assert_allclose(rates([callback], range(4), steps=2), expected, rtol=1e-15)


def test_given_steps_per_epoch_win_over_those_of_fit():
    callback = LearningRateScheduleCallback(1.0, lambda epoch: epoch, staircase=False, steps_per_epoch=4)
    assert rates([callback], [0], steps=2) == [0.0, 0.25]


def test_the_native_schedule_goes_by_the_optimizers_count():
    optimizer = keras.optimizers.SGD(0.1)
    callback = LearningRateSchedule(lambda epochs: epochs, Minibatch(8, 4), images=32)
    callback._optimizer = optimizer
    optimizer.iterations.assign(10)
    assert callback.plan(0, [None, None, 7.0]) == [2.5, 2.75, 3.0]
    callback._optimizer = accumulating = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    accumulating.variables[0].assign(5)
    assert callback.plan(0, [None] * 4) == [0.5, 0.75, 0.75, 1.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LearningRateWarmupCallback(0.1, -1), "warmup_epochs must be a finite number of 0 or more, not -1"),
        (lambda: LearningRateWarmupCallback(0.1, NAN), "warmup_epochs must be a finite number of 0 or more, not nan"),
        (lambda: LearningRateWarmupCallback("a"), "initial_lr must be a finite number of 0 or more, not 'a'"),
        (lambda: LearningRateScheduleCallback(0.1), "multiplier must be a finite number of 0 or more, not None"),
        (lambda: LearningRateScheduleCallback(-1, 0.1), "initial_lr must be a finite number of 0 or more, not -1"),
        (lambda: LearningRateScheduleCallback(1, "x"), "multiplier must be a finite number of 0 or more, not 'x'"),
        (lambda: LearningRateScheduleCallback(1, 1, -2), "start_epoch must be a finite number of 0 or more, not -2"),
        (
            lambda: LearningRateScheduleCallback(1, 1, start_epoch=5, end_epoch=3),
            "end_epoch must not be before start_epoch, but 3 is before 5",
        ),
        (
            lambda: LearningRateScheduleCallback(1, 1, steps_per_epoch=0),
            "steps_per_epoch must be an integer of 1 or more, not 0",
        ),
        (
            lambda: LearningRateSchedule(0.1, Minibatch(8, 4), 32),
            "schedule must be a function from epochs to a learning rate, not 0.1",
        ),
        (lambda: LearningRateSchedule(abs, 8, 32), r"minibatch must be a Minibatch\(size, per_worker\), not 8"),
        (lambda: LearningRateSchedule(abs, Minibatch(8, 4), 0), "images must be an integer of 1 or more, not 0"),
        (
            lambda: rates([LearningRateScheduleCallback(1, lambda epoch: NAN)], [3], steps=1),
            r"multiplier\(3\) must be a finite number of 0 or more, not nan",
        ),
        (
            lambda: LearningRateSchedule(lambda epochs: -epochs, Minibatch(8, 4), 32).rate(2),
            r"schedule\(0.5\) must be a finite number of 0 or more, not -0.5",
        ),
    ],
)  # fmt: skip
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


def fit(optimizer, *callbacks, **options):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    model.fit(np.ones((4, 1)), np.ones((4, 1)), batch_size=2, verbose=0, callbacks=list(callbacks), **options)
    return model


def test_an_optimizer_with_a_schedule_of_its_own():
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    for callback in (LearningRateScheduleCallback(0.1, 1.0), LearningRateSchedule(abs, Minibatch(8, 4), 32)):
        with pytest.raises(ValueError, match=r"learning_rate must be a number for LearningRateSchedule.* to set"):
            fit(keras.optimizers.SGD(decay), callback)


def test_data_of_unknown_length():
    callback = LearningRateScheduleCallback(0.1, abs, staircase=False)
    callback.set_params({"steps": None})
    model = fit(keras.optimizers.SGD(0.1))
    callback.set_model(model)
    with pytest.raises(ValueError, match=r"^steps_per_epoch must be given to LearningRateScheduleCallback, because"):
        callback.on_train_begin()
