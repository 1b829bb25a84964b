"""A Keras model's variables by the names, and in the layouts, of checkpoints."""

from collections.abc import Mapping

import keras
import numpy as np

from hvd_imagenet.checkpoint import check_fits
from hvd_imagenet.keras.layers import batch_normalisations, checkpoint_name, running_averages
from hvd_imagenet.weights import keras_layout, pytorch_layout


def model_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Weights and batch normalisation averages by torchvision's names, the variables themselves, in Keras' layouts.

    Args:
        model: built; counters and the seeds of random layers are left out.

    Returns:
        Variables by name.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="fc"), keras.layers.Dropout(0.5)])
        >>> sorted(model_variables(model))
        ['fc.bias', 'fc.weight']
    """
    counters = {id(getattr(layer, "workers_done", None)) for layer in batch_normalisations(model)}
    return {checkpoint_name(model, each): each for each in model.weights if id(each) not in counters}


def parameter_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The part of model_variables that an optimizer steps, frozen layers included.

    Args:
        model: built.

    Returns:
        Variables by name.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(name="bn1")])
        >>> sorted(parameter_variables(model))
        ['bn1.bias', 'bn1.weight']
    """
    averages = running_averages(model)
    return {name: each for name, each in model_variables(model).items() if name not in averages}


def pytorch_shape(variable: keras.Variable) -> tuple[int, ...]:
    """The shape that a variable has in a checkpoint.

    Args:
        variable: a kernel in Keras' layout, or of one dimension.

    Returns:
        In PyTorch's.

    Example:
        >>> pytorch_shape(keras.Variable(np.zeros((7, 7, 3, 8))))
        (8, 3, 7, 7)
    """
    return pytorch_layout(np.broadcast_to(0, variable.shape)).shape


def to_numpy(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """Copies on the host in PyTorch's layouts, contiguous.

    Args:
        variables: by name.

    Returns:
        Arrays by name.

    Example:
        >>> to_numpy({"fc.weight": keras.Variable(np.zeros((8, 10)))})["fc.weight"].shape
        (10, 8)
    """
    return {
        name: np.array(pytorch_layout(variable.numpy()), order="C", copy=True) for name, variable in variables.items()
    }


def copy_into(target: Mapping[str, keras.Variable], source: Mapping[str, np.ndarray], what: str) -> None:
    """Copies arrays into variables of the same names.

    Args:
        target: variables by name, in Keras' layouts; changed in place.
        source: arrays by name, in PyTorch's layouts.
        what: where the arrays come from, for the message.

    Raises:
        UserError: names or shapes differ.

    Example:
        >>> weight = keras.Variable(np.zeros((3, 2)))
        >>> copy_into({"fc.weight": weight}, {"fc.weight": np.ones((2, 3))}, "checkpoint c")
        >>> float(weight.numpy().sum())
        6.0
    """
    check_fits({name: pytorch_shape(variable) for name, variable in target.items()}, source, what)
    for name, variable in target.items():
        dtype = keras.backend.standardize_dtype(variable.dtype)
        variable.assign(np.ascontiguousarray(keras_layout(source[name]), dtype=dtype))
