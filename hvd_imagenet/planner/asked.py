"""What a user says of a cluster, as the planner takes it."""

import math
import re

from hvd_imagenet.core.minibatch import positive_integer
from hvd_imagenet.planner.prediction import Input
from hvd_imagenet.planner.timeline import MIB, Exchange

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt])bit(?:/s|ps)?", re.IGNORECASE)
_SCALE = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_MOST_WORKERS = 10_000_000


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
    """The numbers between commas, each once; an ellipsis between them is passed over.

    Args:
        text: of --workers.

    Returns:
        Numbers of processes.

    Raises:
        ValueError: something else stands there.

    Example:
        >>> numbers_of_workers("8,…,256,352,")
        [8, 256, 352]
    """
    words = [word.strip() for word in text.split(",")]
    try:
        numbers = [int(word) for word in words if word not in ("", "…", "...")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1 or max(numbers) > _MOST_WORKERS:
        raise ValueError(f"--workers {text}: must be numbers from 1 to {_MOST_WORKERS}, with commas between: 8,64,256")
    return list(dict.fromkeys(numbers))


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
        >>> exchange_of(64, 2)
        Exchange(fusion_bytes=67108864, cycle_s=0.002, negotiation='doubling')
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
