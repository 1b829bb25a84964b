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
        if array.ndim == 4:
            result[f"{layer}/kernel"] = np.ascontiguousarray(array.transpose(2, 3, 1, 0))
        elif array.ndim == 2:
            result[f"{layer}/kernel"] = np.ascontiguousarray(array.T)
        elif f"{layer}.running_mean" in tensors:
            result[f"{layer}/{_KERAS_NAMES[variable]}"] = array
        else:
            result[f"{layer}/{variable}"] = array
    return result
