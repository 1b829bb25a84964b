"""Initial weights in numpy: a function of (seed, parameter name), the same in every framework."""

import hashlib
import re
from collections.abc import Mapping

import numpy as np

from hvd_imagenet.core.counter_random import normal

_CLASSIFIER_DEVIATION = 0.01
_BLOCK_BATCH_NORM = re.compile(r"(?P<block>.+)\.bn(?P<index>\d+)\.weight")


def named_normal(seed: int, name: str, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    """N(0, deviation²), drawn for one parameter.

    Args:
        seed: of the run.
        name: the parameter's, torchvision's spelling.
        shape: of the parameter.
        deviation: standard deviation.

    Returns:
        float64 array of that shape.

    Example:
        >>> bool(abs(named_normal(0, "fc.weight", (100, 64), 0.01).std() - 0.01) < 0.001)
        True
    """
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    count = int(np.prod(shape))
    return deviation * normal(seed, key, np.arange(count)).reshape(shape)


def he_normal(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 2/fan_out) for a convolution (section 5.1; He et al. 2015).

    Args:
        seed: of the run.
        name: the parameter's.
        shape: (out channels, in channels, height, width); fan-out is out channels · height · width.

    Returns:
        float64 array of that shape.

    Example:
        >>> kernel = he_normal(0, "conv1.weight", (64, 3, 7, 7))
        >>> bool(abs(kernel.std() - (2 / (64 * 7 * 7)) ** 0.5) < 0.001)
        True
    """
    fan_out = shape[0] * shape[2] * shape[3]
    return named_normal(seed, name, shape, (2.0 / fan_out) ** 0.5)


def last_batch_norms(names: "Mapping[str, object] | list[str]") -> frozenset[str]:
    """The γ of the last batch normalisation of every residual block.

    Args:
        names: of all parameters, torchvision's spelling: layer1.0.bn3.weight and so on.

    Returns:
        The names of those γ.

    Example:
        >>> sorted(last_batch_norms(["bn1.weight", "layer1.0.bn1.weight", "layer1.0.bn2.weight"]))
        ['layer1.0.bn2.weight']
    """
    last: dict[str, int] = {}
    for match in filter(None, map(_BLOCK_BATCH_NORM.fullmatch, names)):
        last[match["block"]] = max(int(match["index"]), last.get(match["block"], 0))
    return frozenset(f"{block}.bn{index}.weight" for block, index in last.items())


def initial_parameters(
    shapes: Mapping[str, tuple[int, ...]], seed: int, zero_last_gamma: bool = True
) -> dict[str, np.ndarray]:
    """Initial weights of a residual network (section 5.1).

    He-normal convolutions (fan-out), final layer N(0, 0.01²) with zero bias, γ = 1 except γ = 0 in the last
    batch normalisation of every residual block, so that a block starts as the identity; β = 0.

    Args:
        shapes: of every parameter by torchvision's name, in PyTorch's layouts (OIHW, out × in).
        seed: of the run.
        zero_last_gamma: False gives γ = 1 everywhere (table 2b).

    Returns:
        float64 arrays by name.

    Raises:
        ValueError: a parameter is none of these kinds.

    Example:
        >>> weights = initial_parameters({"layer1.0.bn2.weight": (2,), "fc.bias": (3,)}, seed=0)
        >>> weights["layer1.0.bn2.weight"], weights["fc.bias"]
        (array([0., 0.]), array([0., 0., 0.]))
    """
    zero_gammas = last_batch_norms(list(shapes)) if zero_last_gamma else frozenset()
    values = {}
    for name, shape in shapes.items():
        if len(shape) == 4:
            values[name] = he_normal(seed, name, shape)
        elif len(shape) == 2:
            values[name] = named_normal(seed, name, shape, _CLASSIFIER_DEVIATION)
        elif name.endswith(".bias") or name in zero_gammas:
            values[name] = np.zeros(shape)
        elif len(shape) == 1 and name.endswith(".weight"):
            values[name] = np.ones(shape)
        else:
            raise ValueError(f"parameter {name} of shape {shape} must be a convolution, linear or batch norm parameter")
    return values
