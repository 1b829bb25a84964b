"""Arrays out of safetensors files that anyone may have written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from hvd_imagenet.errors import UserError

_FLOATING = ("float32", "float64")


def arrays_of(content: bytes) -> dict[str, np.ndarray]:
    """The arrays in a safetensors file.

    The library checks that the header's sizes are the file's, and that arrays neither overlap nor leave gaps.

    Args:
        content: of the file.

    Returns:
        Arrays by name.

    Raises:
        ValueError: it is no valid file.

    Example:
        >>> arrays_of(bytes([255]) * 8)
        Traceback (most recent call last):
        ...
        ValueError: no valid safetensors file (Error while deserializing: header too large)
    """
    try:
        return load(content)
    except KeyError as error:
        raise ValueError(f"no valid safetensors file (dtype {error} is not supported)") from error
    except (SafetensorError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"no valid safetensors file ({' '.join(str(error).split())})") from error


def weights_of(content: bytes) -> dict[str, np.ndarray]:
    """The arrays in a safetensors file of weights.

    Args:
        content: of the file.

    Returns:
        Arrays by name, float32 or float64, and counters (num_batches_tracked).

    Raises:
        ValueError: it is no valid file, or holds arrays of another dtype.
    """
    arrays = arrays_of(content)
    for name, array in arrays.items():
        counter = str(array.dtype) == "int64" and array.size == 1  # some writers make a vector of a scalar
        if str(array.dtype) not in _FLOATING and not counter:
            raise ValueError(f"array {name[:60]!r} is {array.dtype}, which weights are not ({' or '.join(_FLOATING)})")
    return arrays


def read_weights(path: Path, read_pth: Callable[[Path], dict[str, np.ndarray]] | None = None) -> dict[str, np.ndarray]:
    """The weights in a file that --initial-checkpoint names.

    Args:
        path: of a .safetensors file, or of a .pth file.
        read_pth: reads the latter, raises ValueError where it cannot; None where there is no PyTorch.

    Returns:
        Arrays by torchvision's names, all of finite numbers; without counters (num_batches_tracked).

    Raises:
        UserError: it cannot be read, or holds anything else.

    Example:
        >>> read_weights(Path("resnet50.h5"))
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.UserError: --initial-checkpoint resnet50.h5: must end in .safetensors with --framework keras
    """
    what = f"--initial-checkpoint {path}"
    if path.suffix != ".safetensors" and (path.suffix != ".pth" or read_pth is None):
        endings = ".safetensors with --framework keras" if read_pth is None else ".safetensors or .pth"
        raise UserError(f"{what}: must end in {endings}")
    try:
        arrays = weights_of(path.read_bytes()) if read_pth is None or path.suffix != ".pth" else read_pth(path)
    except OSError as error:
        raise UserError(f"{what}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{what}: {error}; take a file of weights alone, under torchvision's names") from error
    weights = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise UserError(f"{what}: {name} has numbers that are not finite; take other weights")
    return weights
