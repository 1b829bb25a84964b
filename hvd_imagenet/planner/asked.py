"""What a user says of a cluster, as the planner takes it."""

import math
import re

from hvd_imagenet.core.minibatch import positive_integer
from hvd_imagenet.planner.prediction import Input
from hvd_imagenet.planner.timeline import MIB, Exchange

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt])bit(?:/s|ps)?", re.IGNORECASE)
_SCALE = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_MOST_WORKERS = 10_000_000
_ELLIPSIS = "..."
_LAST_DOUBLING = 16_384  # where --workers ends in an ellipsis: as far as README looks


def bits_per_s(text: str) -> float:
    """A network's rate.

    Args:
        text: of --network.

    Returns:
        Bits a second.

    Raises:
        ValueError: it has another form, or is 0.

    Example:
        >>> bits_per_s("50gbit"), bits_per_s("2.5Gbit/s")
        (50000000000.0, 2500000000.0)
    """
    matched = _RATE.fullmatch(text.strip())
    if matched is None or not 0 < float(matched[1]) < math.inf:
        raise ValueError(f"--network {text}: must be a rate above 0, such as 50gbit or 200mbit")
    return float(matched[1]) * _SCALE[matched[2].lower()]


def numbers_of_workers(text: str) -> list[int]:
    """The numbers between commas, each once; an ellipsis stands for doubling from the number before it.

    Args:
        text: of --workers; `…` and `...` are the same. One at the end doubles up to 16,384.

    Returns:
        Numbers of processes.

    Raises:
        ValueError: something else stands there, or doubling does not lead from one number to the next.

    Example:
        >>> numbers_of_workers("8, ... ,64,352,")
        [8, 16, 32, 64, 352]
        >>> numbers_of_workers("2048,…")
        [2048, 4096, 8192, 16384]
    """
    words = text.replace("…", _ELLIPSIS).replace(_ELLIPSIS, f",{_ELLIPSIS},").split(",")
    said = [None if word.strip() == _ELLIPSIS else _workers(text, word.strip()) for word in words if word.strip()]
    if not said:
        raise ValueError(_no_workers(text))
    numbers: list[int] = []
    for before, word, after in zip([None, *said], said, [*said[1:], None], strict=False):
        if word is not None:
            numbers.append(word)
        elif before is None:
            raise ValueError(f"--workers {text}: an ellipsis must follow a number, as in 8,…,256")
        else:
            numbers += _doublings(text, before, after)
    return list(dict.fromkeys(numbers))


def _workers(text: str, word: str) -> int:
    """One number of them."""
    if not word.isdecimal() or not 1 <= int(word) <= _MOST_WORKERS:
        raise ValueError(_no_workers(text))
    return int(word)


def _no_workers(text: str) -> str:
    return f"--workers {text}: must be numbers from 1 to {_MOST_WORKERS}, with commas between: 8,64,256"


def _doublings(text: str, first: int, last: int | None) -> list[int]:
    """What an ellipsis stands for; without a number behind it, too."""
    most = last or _LAST_DOUBLING
    found = [first * 2**times for times in range(1, _MOST_WORKERS.bit_length()) if first * 2**times <= most]
    if not found or last not in (None, found[-1]):
        raise ValueError(
            f"--workers {text}: an ellipsis stands for doubling, which does not lead from {first} to {most}"
        )
    return found


def at_least_zero(option: str, value: float) -> float:
    """The value, if it is a number of 0 or more.

    Args:
        option: its name.
        value: what was received.

    Returns:
        The value.

    Raises:
        ValueError: it is not.
    """
    if not 0 <= value < math.inf:
        raise ValueError(f"{option} {value:g}: must be a number, 0 or more")
    return value


def exchange_of(fusion_threshold_mb: float, cycle_time_ms: float) -> Exchange:
    """Horovod's fusion threshold and cycle time.

    Args:
        fusion_threshold_mb: MiB, 0 for no fusion.
        cycle_time_ms: 0 for no wait.

    Returns:
        How gradients are gathered.

    Raises:
        ValueError: a number is negative or infinite.

    Example:
        >>> exchange_of(64, 2).fusion_bytes, exchange_of(64, 2).cycle_s
        (67108864, 0.002)
    """
    fusion_bytes = int(MIB * at_least_zero("--fusion-threshold-mb", fusion_threshold_mb))
    return Exchange(fusion_bytes, 1e-3 * at_least_zero("--cycle-time-ms", cycle_time_ms))


def feeding_of(cores: int | None, images_per_core: float, storage_mb: float | None, image_kb: float) -> Input:
    """What each server decodes and reads.

    Args:
        cores: for decoding; None for enough.
        images_per_core: decoded a second.
        storage_mb: megabytes (of 10⁶ bytes) read a second; None for enough.
        image_kb: kilobytes (of 10³ bytes) of a stored image.

    Returns:
        Images a second.

    Raises:
        ValueError: a number is not above 0.

    Example:
        >>> feeding_of(cores=20, images_per_core=1000, storage_mb=550, image_kb=110)
        Input(decoded_per_s=20000, read_per_s=5000.0)
    """
    given = {"--images-per-core": images_per_core, "--storage-mb": storage_mb, "--image-kb": image_kb}
    for option, value in given.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{option} {value:g}: must be a number above 0")
    if cores is not None:
        positive_integer("--cores", cores)
    return Input(
        decoded_per_s=math.inf if cores is None else cores * images_per_core,
        read_per_s=math.inf if storage_mb is None else 1e3 * storage_mb / image_kb,
    )
