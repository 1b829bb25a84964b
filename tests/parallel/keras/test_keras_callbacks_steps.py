"""η and momentum correction inside the compiled step, on two ranks, against numpy."""

import math
from typing import Any

import numpy as np
import pytest
from keras_ranks import run_keras_ranks

from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.core.momentum import State, correct_momentum, paper_step
from hvd_imagenet.core.schedules import gradual_warmup

RANKS, STEPS, BATCH = 2, 7, 2  # seven steps: no whole number of executions of three
RATE, WARMUP_EPOCHS, MOMENTUM = 0.05, 1.5, 0.875  # Keras rounds 0.9 to float32, in a float64 model too
WEIGHTS = np.array([1.0, -2.0, 0.5])
X = np.random.default_rng(1).normal(size=(RANKS, STEPS * BATCH, 3))
Y = X @ np.array([0.5, 1.0, -1.0]) + 0.1
HOROVODS_LIST = [1.0] * 3 + [0.1] + [0.01]  # of epochs: the multipliers of the callbacks below


def gradient(weights: np.ndarray, step: int, ranks: int) -> np.ndarray:
    """That of the mean squared error over the ranks' batches of a step."""
    rows = slice(step * BATCH, (step + 1) * BATCH)
    x, y = X[:ranks, rows].reshape(-1, 3), Y[:ranks, rows].reshape(-1)
    return 2 * x.T @ (x @ weights - y) / len(y)


def rate_of(iteration: int) -> float:
    """Warmup over 1.5 epochs, then constant multipliers that begin at epochs 3 and 4; executions look beyond 5."""
    warmup = gradual_warmup(RATE / RANKS, RATE, WARMUP_EPOCHS)
    return warmup(iteration / STEPS) * HOROVODS_LIST[min(iteration // STEPS, 4)]


def reference(iterations: int, nesterov: bool = False, correct: bool = True, ranks: int = RANKS) -> State:
    state, old = State(WEIGHTS, np.zeros(3)), RATE
    for iteration in range(iterations):
        new = rate_of(iteration)
        if correct:
            state = State(state.weights, correct_momentum(state.momentum, new, old))
        state = paper_step(state, gradient(state.weights, iteration % STEPS, ranks), new, MOMENTUM, nesterov)
        old = new
    return state


def horovods(iterations: int, nesterov: bool) -> State:
    """Its correction where it works: optimizer.momentum scaled for one step, the look-ahead's with it."""
    state, old = State(WEIGHTS, np.zeros(3)), RATE
    for iteration in range(iterations):
        new = rate_of(iteration)
        of_step = gradient(state.weights, iteration % STEPS, RANKS)
        state, old = paper_step(state, of_step, new, MOMENTUM * new / old, nesterov), new
    return state


@pytest.mark.parametrize("nesterov", [False, True])
def test_horovods_momentum_correction_is_another(nesterov: bool) -> None:
    right = reference(5 * STEPS, nesterov).weights
    without = reference(5 * STEPS, nesterov, correct=False).weights  # what a compiled step makes of Horovod's
    assert np.abs(without - right).max() > 0.03
    assert (np.abs(horovods(5 * STEPS, nesterov).weights - right).max() > 1e-3) == nesterov


def model_of(optimizer: Any, steps_per_execution: int = 1) -> Any:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer, "mse", steps_per_execution=steps_per_execution)
    model.set_weights([WEIGHTS[:, None]])
    return model


def fit(model: Any, callbacks: list[Any], epochs: int, initial_epoch: int = 0) -> dict[str, list[float]]:
    import hvd_imagenet.keras as hvd

    history = model.fit(
        X[hvd.rank()], Y[hvd.rank()][:, None], batch_size=BATCH, shuffle=False, verbose=0, epochs=epochs,
        initial_epoch=initial_epoch, callbacks=callbacks,
    )  # fmt: skip
    return history.history


def check(model: Any, expected: State, tolerance: float = 1e-12) -> None:
    import keras

    if keras.backend.backend() == "torch":
        tolerance = 1e-6  # its SGD takes η in float32
    velocity = [each for each in model.optimizer.variables if "momentum" in each.name]
    np.testing.assert_allclose(model.get_weights()[0][:, 0], expected.weights, rtol=tolerance)
    np.testing.assert_allclose(-velocity[0].numpy()[:, 0], expected.momentum, rtol=tolerance, atol=tolerance)


def horovods_callbacks(**options: Any) -> list[Any]:
    from hvd_imagenet.keras import callbacks

    bounds = [(1.0, WARMUP_EPOCHS, 3), (0.1, 3, 4), (0.01, 4, None)]
    decays = [
        callbacks.LearningRateScheduleCallback(RATE, multiplier, start_epoch=start, end_epoch=end, **options)
        for multiplier, start, end in bounds
    ]
    return [callbacks.LearningRateWarmupCallback(RATE, warmup_epochs=WARMUP_EPOCHS, verbose=1, **options), *decays]


def sgd(nesterov: bool = False, **options: Any) -> Any:
    import keras

    import hvd_imagenet.keras as hvd

    return hvd.DistributedOptimizer(keras.optimizers.SGD(RATE, MOMENTUM, nesterov=nesterov, **options))


def check_horovods_callbacks(nesterov: bool, steps_per_execution: int) -> None:
    model = model_of(sgd(nesterov), steps_per_execution)
    logs = fit(model, horovods_callbacks(), epochs=5)
    check(model, reference(5 * STEPS, nesterov))
    np.testing.assert_allclose(logs["lr"], [rate_of(last) for last in range(STEPS - 1, 5 * STEPS, STEPS)])
    # What the last, short execution has left of the plan is gone.
    rate = float(model.optimizer.learning_rate)
    model.optimizer.learning_rate = 0.5
    model.train_on_batch(X[0, :BATCH], Y[0, :BATCH])
    assert (rate, float(model.optimizer.learning_rate)) == (RATE * 0.01, 0.5)


def check_several_fits(steps_per_execution: int) -> None:
    """Traced without a plan before; then in three parts, with the same callbacks and with new ones."""
    model = model_of(sgd(nesterov=True), steps_per_execution)
    fit(model, [], epochs=1)
    model.set_weights([WEIGHTS[:, None]])
    for variable in model.optimizer.variables:
        variable.assign(RATE if variable.name == "learning_rate" else np.zeros(variable.shape))
    callbacks = horovods_callbacks()
    fit(model, callbacks, epochs=1)
    fit(model, callbacks, epochs=2, initial_epoch=1)
    fit(model, horovods_callbacks(), epochs=5, initial_epoch=2)
    check(model, reference(5 * STEPS, nesterov=True))


def check_without_correction() -> None:
    """Also after a fit that corrected, whose traced step goes on."""
    model = model_of(sgd())
    fit(model, horovods_callbacks(), epochs=1)
    model.set_weights([WEIGHTS[:, None]])
    for variable in model.optimizer.variables:
        variable.assign(RATE if variable.name == "learning_rate" else np.zeros(variable.shape))
    fit(model, horovods_callbacks(momentum_correction=False), epochs=5)
    check(model, reference(5 * STEPS, correct=False))


def check_an_optimizer_that_is_not_distributed(steps_per_execution: int) -> None:
    import keras

    import hvd_imagenet.keras as hvd

    model = model_of(keras.optimizers.SGD(RATE, MOMENTUM), steps_per_execution)
    model.fit(X[0], Y[0][:, None], batch_size=BATCH, shuffle=False, verbose=0, epochs=5, callbacks=horovods_callbacks())
    assert hvd.size() == RANKS
    check(model, reference(5 * STEPS, ranks=1))


def native(steps: int = STEPS) -> Any:
    """The same η over the optimizer's count: N makes `steps` iterations an epoch."""
    from hvd_imagenet.keras import callbacks

    minibatch = Minibatch(RANKS * BATCH, BATCH)
    return callbacks.LearningRateSchedule(
        lambda epochs: rate_of(round(epochs * steps)), minibatch, images=steps * minibatch.size
    )


def check_native_schedule(steps_per_execution: int) -> None:
    """A run that goes on in new objects, with initial_epoch forgotten."""
    import keras

    model = model_of(sgd(nesterov=True), steps_per_execution)
    fit(model, [native()], epochs=2)
    state = [variable.numpy() for variable in model.optimizer.variables]
    resumed = model_of(sgd(nesterov=True), steps_per_execution)
    resumed.optimizer.build(resumed.trainable_variables)
    resumed.optimizer.set_weights(state)
    resumed.set_weights(model.get_weights())
    logs = fit(resumed, [native()], epochs=3)
    check(resumed, reference(5 * STEPS, nesterov=True))
    np.testing.assert_allclose(logs["learning_rate"], [rate_of(last * STEPS - 1) for last in (3, 4, 5)])
    if keras.backend.backend() == "tensorflow":
        assert resumed.train_function is not None


def check_warmup_with_keras_callbacks() -> None:
    """What they set after warmup stays; without initial_lr it is the optimizer's, as in older Horovod."""
    import keras

    from hvd_imagenet.keras.callbacks import LearningRateScheduleCallback, LearningRateWarmupCallback

    same = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate)
    steps = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.03 if epoch >= 2 else rate)
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, min_delta=100.0, factor=0.5)
    last_of_warmup = gradual_warmup(RATE / RANKS, RATE, 2)(2 - 1 / STEPS)
    own = LearningRateScheduleCallback(multiplier=0.5, start_epoch=2)
    for other, expected in [(same, RATE), (steps, 0.03), (plateau, last_of_warmup / 2), (own, RATE / 2)]:
        for reverse in (False, True):
            model = model_of(sgd())
            rates: list[float] = []
            look = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs, m=model, rates=rates: rates.append(
                    float(m.optimizer.learning_rate)
                )
            )
            callbacks = [LearningRateWarmupCallback(warmup_epochs=2), other]
            fit(model, [*(callbacks[::-1] if reverse else callbacks), look], epochs=3)
            np.testing.assert_allclose(rates[2 * STEPS - 1], last_of_warmup, rtol=1e-6)
            np.testing.assert_allclose(rates[2 * STEPS :], [expected] * STEPS, rtol=1e-6, err_msg=str(other))


def check_accumulation(steps_per_execution: int) -> None:
    """Both passes of an update have its η; seven passes an epoch, so one update is of two epochs."""
    model = model_of(sgd(gradient_accumulation_steps=2), steps_per_execution)
    fit(model, [native()], epochs=4)
    state, old = State(WEIGHTS, np.zeros(3)), RATE
    for update in range(4 * STEPS // 2):
        new = rate_of(update)
        passes = [gradient(state.weights, step % STEPS, RANKS) for step in (2 * update, 2 * update + 1)]
        state = State(state.weights, correct_momentum(state.momentum, new, old))
        state, old = paper_step(state, np.mean(passes, axis=0), new, MOMENTUM), new
    check(model, state)


def check_loss_scaling() -> None:
    import keras

    inner = keras.optimizers.SGD(RATE, MOMENTUM)
    import hvd_imagenet.keras as hvd

    model = model_of(hvd.DistributedOptimizer(keras.optimizers.LossScaleOptimizer(inner)))
    logs = fit(model, horovods_callbacks(), epochs=5)
    check(model, reference(5 * STEPS), tolerance=1e-9)
    assert math.isclose(logs["lr"][-1], RATE * 0.01)


def check_steps() -> None:
    import keras

    keras.config.set_floatx("float64")
    executions = [1, 3] if keras.backend.backend() == "tensorflow" else [1]
    for steps_per_execution in executions:
        for nesterov in (False, True):
            check_horovods_callbacks(nesterov, steps_per_execution)
        check_several_fits(steps_per_execution)
        check_an_optimizer_that_is_not_distributed(steps_per_execution)
        check_native_schedule(steps_per_execution)
        check_accumulation(steps_per_execution)
    check_without_correction()
    check_loss_scaling()
    check_warmup_with_keras_callbacks()


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_rates_and_momentum_of_every_step(backend: str) -> None:
    output = run_keras_ranks(RANKS, check_steps, timeout_s=240, KERAS_BACKEND=backend)
    assert f"Epoch 2: finished gradual learning rate warmup to {RATE:g}." in output
