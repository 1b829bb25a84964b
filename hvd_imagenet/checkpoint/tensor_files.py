"""Arrays out of safetensors files that anyone may have written."""

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

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
        if str(array.dtype) not in _FLOATING and not (str(array.dtype) == "int64" and array.ndim == 0):
            raise ValueError(f"array {name[:60]!r} is {array.dtype}, which weights are not ({' or '.join(_FLOATING)})")
    return arrays
