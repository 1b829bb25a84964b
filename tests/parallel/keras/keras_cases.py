"""A small network, its gradient and Keras' optimizers in numpy alone, and what ranks do with them."""

from collections.abc import Callable
from typing import Any

import numpy as np

INPUTS, HIDDEN, OUTPUTS, BATCH, STEPS = 5, 6, 3, 12, 5
Arrays = list[np.ndarray]


def problem() -> tuple[np.ndarray, np.ndarray, Arrays]:
    """Inputs and targets of STEPS batches, and the weights w1, b1, w2, b2 to begin with."""
    random = np.random.default_rng(5)
    inputs, targets = random.normal(size=(STEPS * BATCH, INPUTS)), random.normal(size=(STEPS * BATCH, OUTPUTS))
    shapes = [(INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, OUTPUTS), (OUTPUTS,)]
    return inputs, targets, [random.normal(size=shape) for shape in shapes]


# --- the reference ---------------------------------------------------------------------------------------------------


def gradient(weights: Arrays, x: np.ndarray, y: np.ndarray) -> Arrays:
    """Of the mean squared error over all elements."""
    w1, b1, w2, b2 = weights
    h = np.tanh(x @ w1 + b1)
    d_out = 2 * (h @ w2 + b2 - y) / y.size
    d_pre = (d_out @ w2.T) * (1 - h**2)
    return [x.T @ d_pre, d_pre.sum(0), h.T @ d_out, d_out.sum(0)]


def sgd(lr: float, momentum: float = 0.0, nesterov: bool = False) -> Callable[..., Any]:
    """Keras' v ← m·v − η·g."""

    def step(w: np.ndarray, g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
        v = state["v"] = momentum * state.get("v", 0.0) - lr * g
        return w + (momentum * v - lr * g if nesterov else v)

    return step


def adam(lr: float, b1: float, b2: float, weight_decay: float = 0.0, eps: float = 2.0**-20) -> Callable[..., Any]:
    def step(w: np.ndarray, g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
        w = w - w * weight_decay * lr
        m = state["m"] = b1 * state.get("m", 0.0) + (1 - b1) * g
        v = state["v"] = b2 * state.get("v", 0.0) + (1 - b2) * g**2
        return w - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)

    return step


def rmsprop(lr: float, rho: float, eps: float = 2.0**-20) -> Callable[..., Any]:
    def step(w: np.ndarray, g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
        v = state["v"] = rho * state.get("v", 0.0) + (1 - rho) * g**2
        return w - lr * g / np.sqrt(v + eps)

    return step


def no_clipping(gradients: Arrays) -> Arrays:
    return gradients


def reference(
    step: Callable[..., Any],
    clip: Callable[[Arrays], Arrays] = no_clipping,
    updates: "list[list[int]] | None" = None,
    at_update: Callable[[Arrays], None] = lambda _: None,
) -> Arrays:
    """Weights after some updates.

    Args:
        step: of one of the optimizers above.
        clip: what is done to the gradients before.
        updates: of each, the numbers of the batches whose mean gradient it takes; one for each batch if None.
        at_update: called with the weights after each.
    """
    inputs, targets, weights = problem()
    states: list[dict[str, Any]] = [{} for _ in weights]
    for number, batches in enumerate([[batch] for batch in range(STEPS)] if updates is None else updates):
        rows = np.concatenate([np.arange(batch * BATCH, (batch + 1) * BATCH) for batch in batches])
        gradients = clip(gradient(weights, inputs[rows], targets[rows]))
        weights = [step(*each, number + 1) for each in zip(weights, gradients, states, strict=True)]
        at_update(weights)
    return weights


# --- what ranks execute ----------------------------------------------------------------------------------------------


def network(weights: Arrays, **options: Any) -> Any:
    import keras

    layers = [keras.Input((INPUTS,)), keras.layers.Dense(HIDDEN, "tanh"), keras.layers.Dense(OUTPUTS)]
    model = keras.Sequential(layers, **options)
    model.set_weights(weights)
    return model


def tight() -> float:
    """Tolerance for float64; Keras' backend torch passes it through float32 in matmul and mean."""
    import keras

    return 1e-12 if keras.backend.backend() == "tensorflow" else 5e-6


def optimizer(kind: str, **options: Any) -> Any:
    import keras

    return getattr(keras.optimizers, kind)(**options)


def own_rows(rows: np.ndarray) -> np.ndarray:
    """This rank's part of every batch."""
    import hvd_imagenet.keras as hvd

    of_batches = rows.reshape(-1, BATCH, *rows.shape[1:])
    share = BATCH // hvd.size()
    part = of_batches[:, hvd.rank() * share : (hvd.rank() + 1) * share]
    return part.reshape(-1, *rows.shape[1:])


def fit(model: Any, rows: Callable[[np.ndarray], np.ndarray], batch: int, **options: Any) -> Arrays:
    """Trains on this rank's rows; the weights afterwards."""
    inputs, targets, _ = problem()
    model.fit(rows(inputs), rows(targets), batch_size=batch, shuffle=False, verbose=0, **options)
    return weights_of(model)


def weights_of(model: Any) -> Arrays:
    import keras

    return [keras.ops.convert_to_numpy(each) for each in model.weights]


def compare(name: str, these: Arrays, those: Arrays, tolerance: float) -> None:
    assert len(these) == len(those), name
    for one, other in zip(these, those, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=name)


def same_on_all_ranks(name: str, values: Arrays) -> None:
    """Bit for bit."""
    from hvd_imagenet.keras.communication import HorovodCommunicator

    of_ranks = HorovodCommunicator().gather([value.tobytes().hex() for value in values])
    assert all(of_rank == of_ranks[0] for of_rank in of_ranks), f"{name}: the ranks' weights differ"


def distributed_and_alone(
    name: str, make: Callable[[], Any], tolerance: float, distribution: dict[str, Any] | None = None, **options: Any
) -> tuple[Any, Arrays]:
    """Trains by this rank's rows, and, on every rank, without Horovod on the whole batches; these must agree.

    Args:
        name: for messages.
        make: an optimizer.
        tolerance: relative and absolute.
        distribution: arguments of DistributedOptimizer.
        options: of compile.

    Returns:
        The distributed model and its weights.
    """
    import hvd_imagenet.keras as hvd

    start = problem()[2]
    alone = network(start)
    alone.compile(make(), loss="mse", **options)
    expected = fit(alone, lambda rows: rows, BATCH)
    model = network(start)
    model.compile(hvd.DistributedOptimizer(make(), **(distribution or {})), loss="mse", **options)
    result = fit(model, own_rows, BATCH // hvd.size())
    same_on_all_ranks(name, result)
    compare(f"{name}, one process", result, expected, tolerance)
    return model, result
