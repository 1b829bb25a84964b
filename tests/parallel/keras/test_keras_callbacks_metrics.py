"""Metrics of uneven shards against those of one process that evaluates all the data."""

from typing import Any

import numpy as np
import pytest
from keras_ranks import run_keras_ranks

TRAINING, VALIDATION = (5, 9, 2), (4, 0, 7)  # images of each rank; the ranks above those of the job have none
GENERATOR = np.random.default_rng(3)
X = GENERATOR.normal(size=(16, 4))
LABELS = np.eye(3)[GENERATOR.integers(0, 3, 16)]
WEIGHTS = GENERATOR.normal(size=(4, 3))
SAMPLE_WEIGHTS = GENERATOR.uniform(0.5, 2.0, 16)


def shard(counts: tuple[int, ...], rank: int) -> slice:
    return slice(sum(counts[:rank]), sum(counts[: rank + 1]))


def model_of(run_eagerly: bool = True) -> Any:
    """With every kind of metric; η = 0 and no reduction, so that ranks may make different numbers of steps."""
    import keras
    from keras import metrics

    class Largest(metrics.Metric):
        """Does not add up."""

        def __init__(self) -> None:
            super().__init__(name="largest")
            self.value = self.add_variable((), "zeros")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.value.assign(keras.ops.maximum(self.value, keras.ops.max(keras.ops.abs(y_true - y_pred))))

        def result(self) -> Any:
            return self.value + 0.0

        def reset_state(self) -> None:
            self.value.assign(0.0)

    class HalfMean(metrics.Mean):
        """Derives from Mean, with a result of its own."""

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            super().update_state(keras.ops.max(y_pred, axis=-1))

        def result(self) -> Any:
            return super().result() / 2

    of_keras = [
        "accuracy", "mae", "mae", metrics.RootMeanSquaredError(), metrics.AUC(name="auc"), metrics.R2Score(),
        metrics.Precision(name="precision"), metrics.F1Score(name="f1", threshold=0.4),
        metrics.TopKCategoricalAccuracy(2, name="top2"),
    ]  # fmt: skip
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax", use_bias=False)])
    model.compile(
        keras.optimizers.SGD(0.0), "categorical_crossentropy", weighted_metrics=["mse", "mae"], run_eagerly=run_eagerly,
        metrics=[*of_keras, Largest(), HalfMean(name="half")],
    )  # fmt: skip
    model.set_weights([WEIGHTS])
    return model


def fit(model: Any, *callbacks: Any, epochs: int = 1, validate: bool = True, **options: Any) -> dict[str, Any]:
    import hvd_imagenet.keras as hvd

    rows, validation = shard(TRAINING, hvd.rank()), shard(VALIDATION, hvd.rank())
    history = model.fit(
        X[rows], LABELS[rows], sample_weight=SAMPLE_WEIGHTS[rows], batch_size=3, epochs=epochs, verbose=0,
        validation_data=(X[validation], LABELS[validation]) if validate else None, callbacks=list(callbacks), **options,
    )  # fmt: skip
    return {name: values[-1] for name, values in history.history.items()}


def of_all(rows: slice, sample_weight: Any = None) -> dict[str, Any]:
    """One process, all the data."""
    found: dict[str, Any] = model_of().evaluate(
        X[rows], LABELS[rows], sample_weight=sample_weight, batch_size=3, verbose=0, return_dict=True
    )
    return found


def of_ranks(values: dict[str, Any]) -> list[Any]:
    import hvd_imagenet.keras as hvd

    return hvd.HorovodCommunicator().gather({name: np.asarray(value).tolist() for name, value in values.items()})


def without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: np.asarray(value) for key, value in values.items() if key != name}


def close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sorted(found) == sorted(expected)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7, err_msg=name)


def check_uneven_shards() -> None:
    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.callbacks import MetricAverage

    size = hvd.size()
    own = fit(model_of())
    callback = MetricAverage()
    for epochs, frequency, run_eagerly in ((1, 1, False), (3, 2, True)):  # the last epoch: with validation, without
        found = fit(model_of(run_eagerly), callback, epochs=epochs, validation_freq=frequency)
        for name, value in of_ranks(found)[0].items():
            np.testing.assert_array_equal(value, found[name])
        training = {name: value for name, value in found.items() if not name.startswith("val_")}
        validation = {name.removeprefix("val_"): value for name, value in found.items() if name.startswith("val_")}
        trained = slice(0, sum(TRAINING[:size]))
        close(without(training, "largest"), without(of_all(trained, SAMPLE_WEIGHTS[trained]), "largest"))
        close(without(validation, "largest"), without(of_all(slice(0, sum(VALIDATION[:size]))), "largest"))
        for name, counts in (("largest", TRAINING), ("val_largest", VALIDATION)):
            values = [of_rank.get(name, 0.0) for of_rank in of_ranks(own)]
            np.testing.assert_allclose(found[name], np.average(values, weights=counts[:size]), rtol=1e-6)
    # Horovod's: the plain mean over the ranks.
    plain = np.mean([of_rank["mae"] for of_rank in of_ranks(own)])
    assert abs(plain / found["mae"] - 1) > 0.005


def check_order_and_other_values() -> None:
    """The callbacks after it see the job's numbers, those before it the rank's; η stays what it is, to the bit."""
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.callbacks import MetricAverageCallback

    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    rank, size = hvd.rank(), hvd.size()

    def add(epoch: int, logs: dict[str, Any]) -> None:
        logs.update(lr=0.1 / 3, of_rank=float(rank), vector=np.array([1.0, rank]), remark="text", loss=float(rank))
        before.update(logs)

    fit(
        model_of(), keras.callbacks.LambdaCallback(on_epoch_end=add), MetricAverageCallback(),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: after.update(logs)), validate=False,
    )  # fmt: skip
    mean = np.average(np.arange(size), weights=TRAINING[:size])
    assert len({of_rank["mae"] for of_rank in of_ranks(before)}) == size
    assert len({of_rank["mae"] for of_rank in of_ranks(after)}) == 1
    assert (after["lr"], after["remark"]) == (0.1 / 3, "text")
    np.testing.assert_allclose(
        [after["of_rank"], after["loss"]], [mean, mean]
    )  # another's number under a metric's name
    np.testing.assert_allclose(after["vector"], [1.0, mean])


def check_a_train_step_of_ones_own() -> None:
    """Mean counts the samples for what else the step returns; without any count each rank weighs the same."""
    import keras
    from keras import ops

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.callbacks import MetricAverage

    class Own(keras.Model):
        def __init__(self, metric: Any) -> None:
            super().__init__()
            self.mine = metric

        @property
        def metrics(self) -> list[Any]:
            return [self.mine]

        def call(self, inputs: Any) -> Any:
            return inputs

        def train_step(self, data: Any) -> dict[str, Any]:
            images = keras.utils.unpack_x_y_sample_weight(data)[0]
            self.mine.update_state(images[:, 0])
            return {"mine": self.mine.result(), "last": ops.mean(images)}

    def logs_of(metric: Any) -> tuple[float, float]:
        model = Own(metric)
        model.compile(run_eagerly=True)
        rows = shard(TRAINING, hvd.rank())
        logs = model.fit(X[rows], batch_size=9, verbose=0, callbacks=[MetricAverage()], shuffle=False).history
        return logs["mine"][0], logs["last"][0]

    trained = X[: sum(TRAINING[: hvd.size()])]
    plain = np.mean([X[shard(TRAINING, rank)].mean() for rank in range(hvd.size())])
    expected = (trained[:, 0].mean(), trained.mean())
    np.testing.assert_allclose(logs_of(keras.metrics.Mean(name="mine")), expected, rtol=1e-5)
    expected = (trained[:, 0].sum(), plain)
    np.testing.assert_allclose(logs_of(keras.metrics.Sum(name="mine")), expected, rtol=1e-5)


def check_different_names() -> None:
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.errors import AgreedError
    from hvd_imagenet.keras.callbacks import MetricAverage

    model = model_of()
    extra = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update({"extra": 1.0} if hvd.rank() == 1 else {})
    )
    told = r"^the logs must have the same names on all ranks, but '{}' is missing on rank {} and is there on rank {};"
    with pytest.raises(AgreedError, match=told.format("extra", 0, 1)):
        fit(model, extra, MetricAverage())
    with pytest.raises(AgreedError, match=told.format("val_accuracy", 1, 0)):
        fit(model, MetricAverage(), validate=hvd.rank() != 1)


def check_metrics() -> None:
    check_uneven_shards()
    check_order_and_other_values()
    check_a_train_step_of_ones_own()
    check_different_names()


@pytest.mark.parametrize(("backend", "ranks"), [("tensorflow", 3), ("torch", 2)])
def test_metrics(backend: str, ranks: int) -> None:
    run_keras_ranks(ranks, check_metrics, timeout_s=240, KERAS_BACKEND=backend)
