"""The names and layouts under which other programs know a network's weights.

Checkpoints have torchvision's names and PyTorch's layouts. Keras has kernels as (height, width, in, out) and (in, out),
and calls the parameters of batch normalisation gamma, beta, moving_mean and moving_variance; a layer keeps its
torchvision name: `layer1.0.bn1.weight` is `layer1.0.bn1/gamma`.
"""

from collections.abc import Mapping

import numpy as np

_KERAS_NAMES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_TORCHVISION_NAMES = {"kernel": "weight", "bias": "bias", **{keras: name for name, keras in _KERAS_NAMES.items()}}


def to_torchvision(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What torchvision's resnet50().load_state_dict wants.

    Args:
        tensors: "model" of a checkpoint.

    Returns:
        The same, with the counters num_batches_tracked that nn.BatchNorm2d has beside its averages.

    Example:
        >>> sorted(to_torchvision({"bn1.running_mean": np.zeros(2)}))
        ['bn1.num_batches_tracked', 'bn1.running_mean']
    """
    counters = {
        name.replace("running_mean", "num_batches_tracked"): np.zeros((), dtype=np.int64)
        for name in tensors
        if name.endswith(".running_mean")
    }
    return {**tensors, **counters}


def to_keras(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keras' names and layouts.

    Args:
        tensors: "model" of a checkpoint; convolutions (out, in, height, width), linear layers (out, in).

    Returns:
        Arrays by LAYER/VARIABLE; kernels (height, width, in, out) and (in, out).

    Example:
        >>> arrays = {"conv1.weight": np.zeros((8, 3, 7, 7)), "fc.weight": np.zeros((10, 8)), "fc.bias": np.zeros(10)}
        >>> {name: array.shape for name, array in to_keras(arrays).items()}
        {'conv1/kernel': (7, 7, 3, 8), 'fc/kernel': (8, 10), 'fc/bias': (10,)}
    """
    result = {}
    for name, array in tensors.items():
        layer, variable = name.rsplit(".", 1)
        if array.ndim in (2, 4):
            result[f"{layer}/kernel"] = np.ascontiguousarray(keras_layout(array))
        elif f"{layer}.running_mean" in tensors:
            result[f"{layer}/{_KERAS_NAMES[variable]}"] = array
        else:
            result[f"{layer}/{variable}"] = array
    return result


def torchvision_name(path: str) -> str:
    """The name that a Keras variable has in a checkpoint.

    Args:
        path: LAYER/VARIABLE.

    Returns:
        LAYER.PARAMETER, torchvision's spelling.

    Raises:
        ValueError: checkpoints have no place for such a variable.

    Example:
        >>> torchvision_name("layer1.0.bn1/gamma")
        'layer1.0.bn1.weight'
    """
    layer, _, variable = path.rpartition("/")
    if variable not in _TORCHVISION_NAMES:
        raise ValueError(f"path must end in one of {', '.join(map('/{}'.format, _TORCHVISION_NAMES))}, not {path!r}")
    return f"{layer}.{_TORCHVISION_NAMES[variable]}"


def pytorch_layout(array: np.ndarray) -> np.ndarray:
    """A kernel of Keras as PyTorch has it; the inverse of keras_layout.

    Args:
        array: (height, width, in, out), (in, out), or one dimension.

    Returns:
        A view: (out, in, height, width), (out, in), or the array itself.

    Example:
        >>> pytorch_layout(np.zeros((7, 7, 3, 8))).shape
        (8, 3, 7, 7)
    """
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def keras_layout(array: np.ndarray) -> np.ndarray:
    """A weight of PyTorch as Keras has it.

    Args:
        array: (out, in, height, width), (out, in), or one dimension.

    Returns:
        A view: (height, width, in, out), (in, out), or the array itself.

    Example:
        >>> keras_layout(np.zeros((8, 3, 7, 7))).shape
        (7, 7, 3, 8)
    """
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def from_keras(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Torchvision's names and layouts: the inverse of to_keras.

    Args:
        arrays: by LAYER/VARIABLE; kernels (height, width, in, out) and (in, out).

    Returns:
        Contiguous arrays by name; convolutions (out, in, height, width), linear layers (out, in).

    Raises:
        ValueError: checkpoints have no place for one of the variables.

    Example:
        >>> {name: array.shape for name, array in from_keras({"conv1/kernel": np.zeros((7, 7, 3, 8))}).items()}
        {'conv1.weight': (8, 3, 7, 7)}
    """
    return {torchvision_name(path): np.ascontiguousarray(pytorch_layout(array)) for path, array in arrays.items()}
