"""What ranks execute: model.fit of a user's own model with the native callbacks, a run folder for each case."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from keras_run_reference import (
    CLASSES,
    EPOCHS,
    IMAGES,
    INPUTS,
    MINIBATCH,
    MOMENTUM,
    RECIPE,
    SHARDS,
    STEPS,
    data,
    initial,
    statistics,
)


def optimizer(kind: str, **options: Any) -> Any:
    import keras

    from hvd_imagenet.keras.optimizers import SGD

    if kind == "adam":
        return keras.optimizers.Adam(0.5, **options)
    made = SGD if kind == "ours" else keras.optimizers.SGD
    return made(0.5, momentum=MOMENTUM, **options)


def fit(
    out: str, kind: str = "keras", epochs: int = EPOCHS, distribution: dict[str, Any] | None = None,
    passes: int = 1, weights: Any = None, more: Any = (), classes: int = CLASSES, interval: int | None = None,
    **compiling: Any,
) -> Any:  # fmt: skip
    """One fit of this rank's shard as a user would write it, from the run folder's newest checkpoint if it has one."""
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras import callbacks
    from hvd_imagenet.recipes import Recipe

    recipe = Recipe(**RECIPE)
    x, y, x_val, y_val = data()
    first, end = SHARDS[hvd.rank()] if passes == 1 else (4 * hvd.rank(), 4 * hvd.rank() + 4)
    mine = np.array([i for i in range(IMAGES) if first <= i % MINIBATCH < end])
    model = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(classes, name="fc")])
    if classes == CLASSES:
        # Another model on every rank: rank 0's, or the checkpoint's, must reach all of them.
        model.set_weights([each + hvd.rank() for each in initial()] if weights is None else weights)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distributed = hvd.DistributedOptimizer(optimizer(kind), **(distribution or {}))
    model.compile(distributed, **{"loss": loss, "metrics": ["accuracy"], **compiling})
    run = callbacks.open_run(out, recipe, images=IMAGES, data_fingerprint="ours")
    validation = callbacks.ExactValidation(x_val, y_val, batch_size=5)
    history = model.fit(
        x[mine], y[mine], batch_size=(end - first) // passes, shuffle=False, verbose=0,
        epochs=epochs, initial_epoch=run.epochs_done,
        callbacks=[
            callbacks.LearningRateSchedule(recipe.learning_rate, recipe.workers, IMAGES),
            validation,
            callbacks.RunLogger(run, validation),
            callbacks.ResumableCheckpoint(run, validation, interval),
            *more,
        ],
    )  # fmt: skip
    return model, history


def fits(out: str) -> None:
    """Every case of this file, a run folder each."""
    import keras

    keras.config.set_floatx("float64")
    fit(f"{out}/plain")
    fit(f"{out}/executions", steps_per_execution=3)
    fit(f"{out}/passes", passes=2, distribution={"backward_passes_per_step": 2, "average_aggregated_gradients": True})
    for kind in ("keras", "ours", "adam"):
        if kind != "keras":
            fit(f"{out}/{kind}", kind)
        fit(f"{out}/{kind}-stopped", kind, epochs=2)
        model, history = fit(f"{out}/{kind}-stopped", kind, weights=[np.zeros((INPUTS, CLASSES)), np.zeros(CLASSES)])
        assert history.epoch == [2]
        assert int(model.optimizer.iterations) == EPOCHS * STEPS
    _, history = fit(f"{out}/plain")
    assert history.epoch == []  # it is finished
    rows_of_a_checkpoint(out)
    metrics_of_the_logs(out)
    passes_across_epochs(f"{out}/across")
    mistakes(out)


def rows_of_a_checkpoint(out: str) -> None:
    """They are written before it, although the losses of several updates are reduced together."""
    import keras

    import hvd_imagenet.keras as hvd

    class Looks(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            iteration = int(self.model.optimizer.iterations)
            if hvd.rank() == 0 and iteration % 2 == 0:
                assert len(Path(out, "intervals", "iterations.csv").read_text().splitlines()) == 1 + iteration

    fit(f"{out}/intervals", interval=2, more=[Looks()])


def passes_across_epochs(out: str) -> None:
    """9 passes an epoch, 2 an update; η is too small to change a weight."""
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras import callbacks
    from hvd_imagenet.recipes import Recipe

    x, y, x_val, y_val = data()
    model = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(CLASSES, name="fc")])
    model.set_weights(list(initial()))
    distributed = hvd.DistributedOptimizer(keras.optimizers.SGD(1e-99), backward_passes_per_step=2)
    model.compile(distributed, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    run = callbacks.open_run(out, Recipe(**{**RECIPE, "reference_lr": 1e-99}), images=36)
    validation = callbacks.ExactValidation(x_val, y_val)
    mine = slice(18 * hvd.rank(), 18 * hvd.rank() + 18)
    model.fit(
        x[mine], y[mine], batch_size=2, shuffle=False, verbose=0, epochs=EPOCHS,
        callbacks=[validation, callbacks.RunLogger(run, validation)],
    )  # fmt: skip


def raise_on_rank_1(out: str) -> None:
    """In the middle of the second epoch, where rank 0 waits for the gradients of rank 1; the file says when."""
    import keras

    import hvd_imagenet.keras as hvd

    class Raises(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if hvd.rank() == 1 and int(self.model.optimizer.iterations) == STEPS + 2:
                Path(out, "raised_s").write_text(str(time.time()))
                raise RuntimeError("a user's own mistake")

    fit(f"{out}/raised", more=[Raises()])


def metrics_of_the_logs(out: str) -> None:
    _, history = fit(f"{out}/logs")
    for name in ("val_loss", "val_error", "val_error_top5", "learning_rate"):
        assert len(history.history[name]) == EPOCHS, history.history


def message_of(kind: type[Exception], call: Callable[[], Any]) -> str:
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def mistakes(out: str) -> None:
    """All ranks are told, and the next collective finds them all."""
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.errors import AgreedError
    from hvd_imagenet.keras import callbacks
    from hvd_imagenet.recipes import Recipe

    told = [
        message_of(ValueError, lambda: fit(f"{out}/bare", metrics=None)),
        message_of(AgreedError, lambda: fit(f"{out}/plain", classes=6)),
        message_of(AgreedError, lambda: fit(f"{out}/plain", "adam")),
        message_of(AgreedError, lambda: fit(f"{out}/adam", "keras")),
        message_of(AgreedError, lambda: callbacks.open_run(f"{out}/plain", Recipe(**{**RECIPE, "epochs": 4}), IMAGES)),
        message_of(AgreedError, lambda: callbacks.open_run(f"{out}/plain", Recipe(**RECIPE), IMAGES, "theirs")),
        message_of(AgreedError, lambda: callbacks.open_run(f"{out}/plain/config.yaml/run", Recipe(**RECIPE), IMAGES)),
        message_of(ValueError, lambda: without_validation(keras, callbacks, f"{out}/forgotten")),
    ]
    of_ranks = hvd.HorovodCommunicator().gather(told)
    assert of_ranks[0] == of_ranks[1]
    if hvd.rank() == 0:
        Path(out, "told.json").write_text(json.dumps(told))


def without_validation(keras: Any, callbacks: Any, out: str) -> None:
    from hvd_imagenet.recipes import Recipe

    x, y, x_val, y_val = data()
    model = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(CLASSES)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    logger = callbacks.RunLogger(
        callbacks.open_run(out, Recipe(**RECIPE), IMAGES), callbacks.ExactValidation(x_val, y_val)
    )  # fmt: skip
    model.fit(x, y, verbose=0, callbacks=[logger])


def validate_with_batch_norm() -> None:
    """Each rank's averages are others; what is validated has their means."""
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.callbacks import ExactValidation

    keras.config.set_floatx("float64")
    _, _, x_val, y_val = data()
    w, b = initial()
    normalise = keras.layers.BatchNormalization(epsilon=0.25)
    model = keras.Sequential([keras.Input((INPUTS,)), normalise, keras.layers.Dense(CLASSES)])
    model.compile("sgd", "mse")
    averages = [(np.arange(4.0) * (1 + rank), 1.0 + np.arange(4.0) + rank) for rank in range(hvd.size())]
    model.set_weights([np.full(4, 2.0), np.full(4, 0.5), *averages[hvd.rank()], w, b])
    callback = ExactValidation(x_val, y_val, batch_size=4)
    callback.set_model(model)
    found = callback.validate()
    mean, variance = (np.mean([each[part] for each in averages], axis=0) for part in (0, 1))
    normalised = 2.0 * (x_val - mean) / np.sqrt(variance + 0.25) + 0.5
    loss, wrong, not_in_5 = statistics(w, b, normalised, y_val)[0]
    assert (found.images, found.correct, found.correct_top5) == (23, 23 - wrong, 23 - not_in_5)
    assert abs(found.loss / loss - 1) < 1e-12
    model.set_weights([np.zeros_like(each) for each in model.get_weights()])
    assert callback.validate() is found  # no step was made since
    callback.on_train_begin()
    assert abs(callback.validate().mean_loss - np.log(CLASSES)) < 1e-12


def everything(out: str) -> None:
    validate_with_batch_norm()
    fits(out)
