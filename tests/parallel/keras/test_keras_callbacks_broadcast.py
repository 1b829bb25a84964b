"""Broadcast before the first step, for models of every kind, on two ranks."""

from typing import Any

import numpy as np
import pytest
from keras_ranks import run_keras_ranks

X = np.array([[[1.0, 2.0], [3.0, -1.0]], [[0.5, 4.0], [-2.0, 1.0]]])  # rank, image, feature
Y = np.array([[[1.0], [2.0]], [[-1.0], [0.5]]])
RATE = 0.125
OF_RANKS = np.array([1.0, 3.0])  # what rank 0 and 1 begin with, in every weight


def gradient(rank: int, weight: float) -> np.ndarray:
    error = X[rank] @ np.full((2, 1), weight) - Y[rank]
    return X[rank].T @ error


def after_one_step(root_rank: int) -> np.ndarray:
    """One step of SGD on the joined batch from the root's weights."""
    weight = OF_RANKS[root_rank]
    return weight - RATE * np.mean([gradient(rank, weight) for rank in range(2)], axis=0)


def after_horovods_callback(root_rank: int) -> np.ndarray:
    """It broadcasts at the end of the first batch: the gradients before were those of different weights."""
    mixed = np.mean([gradient(rank, OF_RANKS[rank]) for rank in range(2)], axis=0)
    return OF_RANKS[root_rank] - RATE * mixed


def test_a_broadcast_after_the_first_batch_is_too_late() -> None:
    assert np.abs(after_horovods_callback(0) - after_one_step(0)).min() > 0.1


def dense(**options: Any) -> Any:
    import keras

    import hvd_imagenet.keras as hvd

    of_rank = keras.initializers.Constant(OF_RANKS[hvd.rank()])
    return keras.layers.Dense(1, use_bias=False, kernel_initializer=of_rank, **options)


def sequential(*layers: Any, **options: Any) -> Any:
    import keras

    import hvd_imagenet.keras as hvd

    model = keras.Sequential([*layers, dense()])
    optimizer = keras.optimizers.SGD(RATE, **options)
    model.compile(hvd.DistributedOptimizer(optimizer), "mse")
    return model


def subclassed(seed: int) -> Any:
    import keras

    import hvd_imagenet.keras as hvd

    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = dense()
            self.dropout = keras.layers.Dropout(1e-9, seed=seed)
            self.never_called = keras.layers.Dense(3)

        def call(self, inputs: Any, training: bool = False) -> Any:
            return self.dropout(self.dense(inputs["image"]), training=training)

    model = Subclassed()
    model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(RATE)), "mse")
    return model


def fit(model: Any, *callbacks: Any, x: Any = None) -> None:
    import hvd_imagenet.keras as hvd

    rank = hvd.rank()
    model.fit(X[rank] if x is None else x, Y[rank], batch_size=2, verbose=0, callbacks=list(callbacks))


def of_ranks(values: Any) -> list[Any]:
    import hvd_imagenet.keras as hvd

    return hvd.HorovodCommunicator().gather(values)


def has(model: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(model.weights[0].numpy(), expected, rtol=1e-6)
    first, second = of_ranks([variable.numpy().tolist() for variable in [*model.weights, *model.optimizer.variables]])
    assert first == second


def check_models_of_every_kind() -> None:
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.callbacks import BroadcastGlobalVariablesCallback, BroadcastVariables

    for root_rank in (0, 1):
        for layers in ([keras.Input((2,))], [], [keras.layers.Flatten()]):  # the last two learn their input in fit
            model = sequential(*layers)
            fit(model, BroadcastGlobalVariablesCallback(root_rank))
            has(model, after_one_step(root_rank))
    model = subclassed(seed=hvd.rank())
    fit(model, BroadcastVariables(), x={"image": X[hvd.rank()]})
    has(model, after_one_step(0))
    seeds = of_ranks(model.dropout.seed_generator.state.numpy().tolist())
    assert seeds[0] != seeds[1]


def check_every_fit() -> None:
    """The optimizer's own state too; built on the root, and not yet on the other rank."""
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.callbacks import BroadcastVariables

    seen: list[int] = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(int(model.optimizer.variables[0].numpy()))
    )
    model = sequential(momentum=0.5)
    if hvd.rank() == 1:
        model(X[0])
        model.optimizer.build(model.trainable_variables)
        model.optimizer.variables[2].assign(np.full((2, 1), -0.25))
        model.optimizer.iterations.assign(7)
    broadcast = BroadcastVariables(root_rank=1)
    fit(model, broadcast, look)
    has(model, after_one_step(1) - 0.125)  # half the velocity
    assert seen == [7]
    model.weights[0].assign(np.full((2, 1), OF_RANKS[hvd.rank()]))
    model.optimizer.variables[2].assign(np.zeros((2, 1)))
    fit(model, broadcast)
    has(model, after_one_step(1))


def check_local_variables() -> None:
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.callbacks import BroadcastGlobalVariablesCallback

    model = sequential(keras.Input((2,)), keras.layers.Normalization(mean=0.0, variance=1.0))
    local = model.weights[0]
    assert len(model.weights) == 1
    for local_variables in (local, [local], local.value if keras.backend.backend() == "tensorflow" else local):
        local.assign(np.full((2, 1), OF_RANKS[hvd.rank()]))
        model.optimizer.learning_rate = 0.0
        fit(model, BroadcastGlobalVariablesCallback(0, local_variables=local_variables))
        assert of_ranks(local.numpy()[0, 0].item()) == [1.0, 3.0]


def check_errors() -> None:
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.errors import AgreedError
    from hvd_imagenet.keras.callbacks import BroadcastVariables

    with pytest.raises(ValueError, match=r"^root_rank must be below the number of ranks, but 2 is not below 2$"):
        fit(sequential(keras.Input((2,))), BroadcastVariables(2))
    model = sequential(keras.Input((2,)), *[keras.layers.Dense(2 + hvd.rank())])
    with pytest.raises(AgreedError, match=r"dense.* is float32\[2, 3\] on rank 1, and .* is float32\[2, 2\] on rank 0"):
        fit(model, BroadcastVariables())
    rows = np.repeat(X[0], 2 + hvd.rank(), axis=0), np.repeat(Y[0], 2 + hvd.rank(), axis=0)
    with pytest.raises(AgreedError, match=r"^rank 1 has 6 steps an epoch, rank 0 has 4: give all ranks the same"):
        sequential(keras.Input((2,))).fit(*rows, batch_size=1, verbose=0, callbacks=[BroadcastVariables()])
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    shapeless = tf.data.Dataset.from_tensor_slices((X[0], Y[0])).batch(2)
    if hvd.rank() == 1:
        spec = tf.TensorSpec(None, tf.float64), tf.TensorSpec(None, tf.float64)
        shapeless = tf.data.Dataset.from_generator(lambda: iter([(X[1], Y[1])]), output_signature=spec)
    expected = (
        r"has no weights to broadcast before its first step, and the shapes of the data do not suffice to build it "
        r"\(ValueError: the data have no known number of dimensions\)"
    )
    with pytest.raises(AgreedError, match=expected):
        sequential().fit(shapeless, verbose=0, callbacks=[BroadcastVariables()])


def check_an_optimizer_that_is_not_distributed() -> None:
    """Forgotten, made from a configuration, or loaded by Keras; a step of the user's own may have other optimizers."""
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.errors import AgreedError
    from hvd_imagenet.keras.callbacks import BroadcastVariables

    class OwnStep(keras.Model):
        def train_step(self, *data: Any) -> Any:
            return super().train_step(*data)

    inputs = keras.Input((2,))
    for on_both in (True, False):
        model = sequential(inputs)
        if on_both or hvd.rank() == 1:
            model.compile(type(model.optimizer).from_config(model.optimizer.get_config()), "mse")
        rank = 0 if on_both else 1
        with pytest.raises(AgreedError, match=f"^the optimizer SGD on rank {rank} is not distributed") as caught:
            fit(model, BroadcastVariables())
        assert caught.value.spokesman == rank
    model = OwnStep(inputs, dense()(inputs))
    for optimizer in (keras.optimizers.SGD(0.0), None):
        model.compile(optimizer, "mse")
        callback = BroadcastVariables()
        callback.set_model(model)
        callback.on_train_begin()
        assert of_ranks(model.weights[0].numpy().tolist())[1] == [[1.0], [1.0]]


def check_broadcast() -> None:
    check_an_optimizer_that_is_not_distributed()
    check_models_of_every_kind()
    check_every_fit()
    check_local_variables()
    check_errors()


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_broadcast(backend: str) -> None:
    output = run_keras_ranks(2, check_broadcast, timeout_s=240, KERAS_BACKEND=backend)
    assert output.count("OwnStep.train_step is its own, and model.optimizer is not distributed") == 1
