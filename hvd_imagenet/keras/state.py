"""Checkpoints in the neutral format, out of and into a Keras model and its optimizer.

Names and layouts of what leaves here are torchvision's and PyTorch's, and momentum is in PyTorch's form (see
hvd_imagenet.core.momentum), so that a run may go on in the other framework.
"""

import contextlib
import importlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import keras
import numpy as np

from hvd_imagenet import __version__
from hvd_imagenet.checkpoint import check_fits
from hvd_imagenet.data.jpeg import decoder_name
from hvd_imagenet.errors import UserError
from hvd_imagenet.keras.ema import ModelEma
from hvd_imagenet.keras.optimizers import SGD, innermost
from hvd_imagenet.keras.variables import (
    copy_into,
    model_variables,
    parameter_variables,
    pytorch_shape,
    to_numpy,
)


def model_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """Weights and batch normalisation averages as a checkpoint has them.

    Args:
        model: built.

    Returns:
        Arrays by torchvision's names, in PyTorch's layouts.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="fc")])
        >>> {name: array.shape for name, array in model_arrays(model).items()}
        {'fc.weight': (2, 3), 'fc.bias': (2,)}
    """
    return to_numpy(model_variables(model))


class _Momentum(NamedTuple):
    """Where an optimizer keeps its momentum: variable = factor · u."""

    variables: dict[str, keras.Variable]
    factor: float


def _momentum(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> _Momentum:
    inner = innermost(optimizer)
    if not isinstance(inner, SGD | keras.optimizers.SGD):
        raise UserError(
            f"optimizer {type(inner).__name__} has no momentum that a checkpoint can hold; "
            f"take hvd_imagenet.keras.optimizers.SGD or keras.optimizers.SGD"
        )
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    kept = inner.buffers if isinstance(inner, SGD) else inner.momentums
    variables = {}
    for name, variable in parameter_variables(model).items() if kept else ():
        with contextlib.suppress(KeyError):  # a frozen layer's
            variables[name] = kept[inner._get_variable_index(variable)]
    if isinstance(inner, SGD) or not variables:
        return _Momentum(variables, 1.0)
    if not isinstance(inner._learning_rate, keras.Variable):
        raise UserError(
            "learning_rate of keras.optimizers.SGD is a schedule, which hides the η that its velocity was made with; "
            "give it a number, and the schedule to a callback"
        )
    return _Momentum(variables, -float(inner.learning_rate.numpy()))


def momentum_arrays(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, np.ndarray]:
    """The buffers u of u ← m·u + g, as a checkpoint has them; zeros before the first step and without momentum.

    keras.optimizers.SGD keeps v = −η·u, where η is that of its last step and still its learning rate, because
    momentum correction scales v when η changes. With η = 0, the end of a cosine, u cannot be told from v and is zero.

    Args:
        model: whose parameters the optimizer steps.
        optimizer: SGD, keras.optimizers.SGD, or a LossScaleOptimizer around one; built if it is not yet.

    Returns:
        Arrays by torchvision's names, in PyTorch's layouts.

    Raises:
        UserError: the optimizer is of another kind, or its learning rate is a schedule.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="fc")])
        >>> sorted(momentum_arrays(model, SGD(0.1, momentum=0.9)))
        ['fc.bias', 'fc.weight']
    """
    momentum = _momentum(model, optimizer)
    arrays = to_numpy(momentum.variables)
    for array in arrays.values():
        if momentum.factor == 0:
            array.fill(0)
        elif momentum.factor != 1:
            array /= momentum.factor
    for name, variable in parameter_variables(model).items():
        if name not in arrays:
            arrays[name] = np.zeros(pytorch_shape(variable), keras.backend.standardize_dtype(variable.dtype))
    return arrays


def checkpoint_tensors(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, ema: ModelEma | None
) -> dict[str, dict[str, np.ndarray]]:
    """The tensors of a checkpoint.

    Args:
        model: built.
        optimizer: see momentum_arrays.
        ema: if there is one.

    Returns:
        "model", "momentum" and perhaps "model_ema": arrays by name.
    """
    tensors = {"model": model_arrays(model), "momentum": momentum_arrays(model, optimizer)}
    return tensors if ema is None else {**tensors, "model_ema": to_numpy(ema.variables)}


def load_into(
    tensors: Mapping[str, Mapping[str, np.ndarray]],
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    ema: ModelEma | None,
    what: str,
) -> None:
    """Puts a checkpoint's tensors into a model, its optimizer and its running average.

    keras.optimizers.SGD gets v = −η·u with the learning rate that it has now: set the checkpoint's before.

    Args:
        tensors: of the checkpoint.
        model: changed in place.
        optimizer: likewise.
        ema: likewise, if there is one.
        what: the checkpoint's name, for messages.

    Raises:
        UserError: they do not fit.
    """
    copy_into(model_variables(model), tensors["model"], what)
    momentum, source = _momentum(model, optimizer), tensors["momentum"]
    shapes = {name: pytorch_shape(each) for name, each in parameter_variables(model).items()}
    check_fits(shapes, source, what)
    copy_into(momentum.variables, {name: momentum.factor * source[name] for name in momentum.variables}, what)
    if ema is not None:
        copy_into(ema.variables, tensors.get("model_ema", {}), what)


def versions() -> dict[str, Any]:
    """The versions that a checkpoint names.

    Example:
        >>> sorted(set(versions()) - {"tensorflow", "torch"})
        ['horovod', 'hvd_imagenet', 'image_decoder', 'keras', 'numpy', 'python']
    """
    backend = keras.backend.backend()
    return {
        "hvd_imagenet": __version__,
        "python": platform.python_version(),
        "image_decoder": decoder_name(),
        **{name: version(name) for name in ("horovod", "numpy", "keras")},
        # TensorFlow's distribution may be tensorflow or tensorflow-cpu.
        backend: importlib.import_module(backend).__version__,
    }
