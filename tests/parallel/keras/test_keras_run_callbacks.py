"""model.fit of a user's own model with the native callbacks: the run folder against numpy, and going on."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_ranks import run_keras_ranks
from training import UNMEASURED, losses, rows, tensors

INPUTS, CLASSES, IMAGES, MINIBATCH, EPOCHS = 4, 7, 40, 8, 3
STEPS = IMAGES // MINIBATCH
MOMENTUM = 0.9
KERAS_MOMENTUM = float(np.float32(MOMENTUM))  # keras.optimizers.SGD rounds it, whatever the weights' dtype
# Of each minibatch of 8 rank 0 takes 5 images and rank 1 takes 3.
SHARDS = ((0, 5), (5, 8))
RECIPE: dict[str, Any] = {
    "minibatch": MINIBATCH, "per_worker": 4, "epochs": EPOCHS, "reference_lr": 0.05, "reference_minibatch": 4,
    "warmup_epochs": 1.3, "schedule": "cosine",
}  # fmt: skip


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images and labels, and 23 for validation."""
    random = np.random.default_rng(4)
    images = random.normal(size=(IMAGES + 23, INPUTS))
    labels = (images @ random.normal(size=(INPUTS, CLASSES)) + random.normal(size=(len(images), CLASSES))).argmax(1)
    return images[:IMAGES], labels[:IMAGES], images[IMAGES:], labels[IMAGES:]


# --- the reference ---------------------------------------------------------------------------------------------------


def statistics(w: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums over the images: [loss, wrong, not among the top 5]; gradients of the loss by w and b."""
    logits = x @ w + b
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    of_label = logits[np.arange(len(y)), y]
    rank = (logits > of_label[:, None]).sum(1)
    error = probabilities - np.eye(CLASSES)[y]
    sums = np.array([-np.log(probabilities[np.arange(len(y)), y]).sum(), (rank >= 1).sum(), (rank >= 5).sum()])
    return sums, x.T @ error, error.sum(0)


def reference(
    shards: tuple[tuple[int, int], ...], momentum: float
) -> tuple[list[dict[str, float]], list[dict[str, float]], np.ndarray]:
    """Rows of iterations.csv and metrics.csv, and the weights, of u ← m·u + g; w ← w − η·u."""
    from hvd_imagenet.recipes import Recipe

    recipe = Recipe(**RECIPE)
    x, y, x_val, y_val = data()
    w, b = initial()
    u_w, u_b = np.zeros_like(w), np.zeros_like(b)
    iterations, epochs = [], []
    for epoch in range(EPOCHS):
        total = np.zeros(3)
        for step in range(STEPS):
            t = epoch * STEPS + step
            lr = recipe.learning_rate(t * MINIBATCH / IMAGES)
            start, sums, g_w, g_b = step * MINIBATCH, np.zeros(3), 0.0, 0.0
            for first, end in shards:
                part = slice(start + first, start + end)
                of_part, by_w, by_b = statistics(w, b, x[part], y[part])
                sums, size = sums + of_part, (end - first) * len(shards)  # the mean of the shards' means
                g_w, g_b = g_w + by_w / size, g_b + by_b / size
            u_w, u_b = momentum * u_w + g_w, momentum * u_b + g_b
            w, b = w - lr * u_w, b - lr * u_b
            total += sums
            iterations.append(
                {"iteration": t, "epoch": t * MINIBATCH / IMAGES, "lr": lr, "loss": sums[0] / MINIBATCH}
            )  # fmt: skip
        validation = statistics(w, b, x_val, y_val)[0] / 23
        epochs.append({
            "epoch": epoch, "iteration": t, "lr": lr,
            "train_loss": total[0] / IMAGES, "train_error": 100 * total[1] / IMAGES,
            "val_loss": validation[0], "val_error": 100 * validation[1], "val_error_top5": 100 * validation[2],
        })  # fmt: skip
    return iterations, epochs, w


def initial() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(8)
    return random.normal(size=(INPUTS, CLASSES)), random.normal(size=CLASSES)


# --- what ranks execute ----------------------------------------------------------------------------------------------


def optimizer(kind: str, **options: Any) -> Any:
    import keras

    from hvd_imagenet.keras.optimizers import SGD

    if kind == "adam":
        return keras.optimizers.Adam(0.5, **options)
    made = SGD if kind == "ours" else keras.optimizers.SGD
    return made(0.5, momentum=MOMENTUM, **options)


def fit(
    out: str, kind: str = "keras", epochs: int = EPOCHS, distribution: dict[str, Any] | None = None,
    passes: int = 1, weights: Any = None, more: Any = (), classes: int = CLASSES, **compiling: Any,
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
            callbacks.ResumableCheckpoint(run, validation),
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
    metrics_of_the_logs(out)
    passes_across_epochs(f"{out}/across")
    mistakes(out)


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
    """In the middle of the second epoch, where rank 0 waits for the gradients of rank 1."""
    import keras

    import hvd_imagenet.keras as hvd

    class Raises(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if hvd.rank() == 1 and int(self.model.optimizer.iterations) == STEPS + 2:
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


# --- tests -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("callbacks")
    run_keras_ranks(2, everything, out, timeout_s=240)
    return out


def agrees(table: list[dict[str, str]], expected: list[dict[str, float]], rtol: float) -> None:
    assert len(table) == len(expected)
    for row, wanted in zip(table, expected, strict=True):
        for name, value in wanted.items():
            assert float(row[name]) == pytest.approx(value, rel=rtol, abs=ROUNDED.get(name)), name


# Numbers that the tables hold with so many decimals.
ROUNDED = {
    "epoch": 1e-6, "train_loss": 1e-6, "val_loss": 1e-6, "train_error": 1e-4, "val_error": 1e-4,
    "val_error_top5": 1e-4,
}  # fmt: skip


# Two passes of 2 images on each rank give the mean over 8, which is also that over two shards of 4.
@pytest.mark.parametrize(("name", "shards"), [("plain", SHARDS), ("ours", SHARDS), ("passes", ((0, 4), (4, 8)))])
def test_the_rows_are_those_of_numpy(runs: Path, name: str, shards: tuple[tuple[int, int], ...]) -> None:
    iterations, epochs, w = reference(shards, MOMENTUM if name == "ours" else KERAS_MOMENTUM)
    agrees(rows(runs / name), iterations, 1e-9)
    agrees(rows(runs / name, "metrics.csv"), epochs, 2e-6)
    np.testing.assert_allclose(tensors(runs / name)["fc.weight"].T, w, rtol=1e-9, atol=1e-12)
    summary = json.loads((runs / name / "summary.json").read_text())
    assert (summary["framework"], summary["processes"], summary["iterations"]) == ("keras", 2, EPOCHS * STEPS)
    assert summary["val_error_final"] == pytest.approx(epochs[-1]["val_error"], abs=1e-4)


def test_several_steps_in_one_execution(runs: Path) -> None:
    iterations, epochs, w = reference(SHARDS, KERAS_MOMENTUM)
    # Executions of 3 steps and 2; a row holds the mean of its steps' losses, with the η of the last.
    expected = []
    for start in range(0, EPOCHS * STEPS, STEPS):
        for part in (iterations[start : start + 3], iterations[start + 3 : start + STEPS]):
            expected.append({**part[-1], "loss": np.mean([row["loss"] for row in part])})
    agrees(rows(runs / "executions"), expected, 1e-9)
    agrees(rows(runs / "executions", "metrics.csv"), epochs, 2e-6)
    np.testing.assert_allclose(tensors(runs / "executions")["fc.weight"].T, w, rtol=1e-9, atol=1e-12)


def test_passes_of_an_update_on_both_sides_of_an_epoch_s_begin(runs: Path) -> None:
    x, y, _, _ = data()
    expected = []
    for update in range(EPOCHS * 9 // 2):
        passes = [start % 18 for start in (4 * update, 4 * update + 2)]
        ids = np.array([half + start + i for half in (0, 18) for start in passes for i in (0, 1)])
        expected.append(statistics(*initial(), x[ids], y[ids])[0][0] / MINIBATCH)
    assert len(expected) == 13
    np.testing.assert_allclose(losses(runs / "across"), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("whole", "kind", "tolerance"), [("plain", "keras", 1e-12), ("ours",) * 2 + (0.0,), ("adam",) * 2 + (0.0,)]
)
def test_a_run_that_was_stopped_at_an_epoch_s_end(runs: Path, whole: str, kind: str, tolerance: float) -> None:
    # keras.optimizers.SGD keeps −η·u: the division and the multiplication round.
    stopped = runs / f"{kind}-stopped"
    np.testing.assert_allclose(losses(stopped), losses(runs / whole), rtol=tolerance)
    found, expected = tensors(stopped), tensors(runs / whole)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, err_msg=name)
    tables = [[{**row, **UNMEASURED} for row in rows(run, "metrics.csv")] for run in (stopped, runs / whole)]
    assert tables[0] == tables[1]
    assert json.loads((stopped / "summary.json").read_text())["resumed_from_iteration"] == 2 * STEPS


def test_mistakes_are_told_to_all_ranks(runs: Path) -> None:
    for told, parts in zip(
        json.loads((runs / "told.json").read_text()),
        [
            ["accuracy among its metrics, not ['loss']", 'compile(…, metrics=["accuracy"])'],
            [f"checkpoint in {runs}/plain", "fc.weight", "(7, 4)", "(6, 4)"],
            [f"checkpoint in {runs}/plain: it is of another optimizer than Adam", "compile with that one"],
            [f"checkpoint in {runs}/adam: it is of another optimizer than SGD", "compile with that one"],
            ["another recipe: epochs 3 there, 4 here", "another --out"],
            ["is of other data"],
            [f"run folder {runs}/plain/config.yaml/run: cannot be written (Not a directory)", "choose another"],
            ["validation must be among fit's callbacks"],
        ],
        strict=True,
    ):
        for part in parts:
            assert part in told


def test_an_exception_on_one_rank_ends_the_job(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(AssertionError, match="exit code 1") as raised:
        run_keras_ranks(2, raise_on_rank_1, tmp_path)
    assert time.monotonic() - started < 60  # 8 s on 2 quiet cores; Horovod itself would wait for ever
    assert "rank 1 of 2 on " in str(raised.value)
    assert "RuntimeError: a user's own mistake" in str(raised.value)
    assert "rank 0 of 2" not in str(raised.value)
    assert [row["epoch"] for row in rows(tmp_path / "raised", "metrics.csv")] == ["0"]
