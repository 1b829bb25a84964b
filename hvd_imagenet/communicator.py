"""The few collectives that training needs, passed in so that nobody reads a rank from a global.

What processes tell each other is JSON, which nothing is executed to read: whoever gets at their connections can send
wrong data, but no program, as he could in a pickle.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Protocol, TypeVar

import numpy as np

from hvd_imagenet.errors import AgreedError, UserError

Result = TypeVar("Result")


class Communicator(Protocol):
    """The processes of a job, as seen from one of them."""

    rank: int
    size: int
    local_rank: int

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The element-wise sum over all processes, float64, on every process."""

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes in the order of their ranks, on every process; `encoded` says of which kinds."""


def encoded(value: Any) -> np.ndarray:
    """Plain data as it travels between processes.

    Args:
        value: None, truth values, whole numbers, floats (kept bit for bit; NaN and infinity too), text, lists, and
            mappings whose keys are text. A tuple arrives as a list.

    Returns:
        uint8 array, never empty.

    Raises:
        TypeError: the value is, or holds, something else.

    Example:
        >>> encoded(np.float32(1))
        Traceback (most recent call last):
        ...
        TypeError: only numbers, text, lists and mappings travel between processes; convert the float32 before
        >>> decoded([encoded((0.1, None)), encoded("two")])
        [[0.1, None], 'two']
    """
    return np.frombuffer(bytearray(json.dumps(value, default=_refuse).encode()), dtype=np.uint8)


def _refuse(value: Any) -> NoReturn:
    kind = type(value).__name__
    raise TypeError(f"only numbers, text, lists and mappings travel between processes; convert the {kind} before")


def decoded(of_ranks: Iterable[np.ndarray]) -> list[Any]:
    """The plain data that all processes have sent.

    Args:
        of_ranks: the bytes of each, in the order of their ranks; the same on every process.

    Returns:
        What was given to `encoded`.

    Raises:
        AgreedError: the bytes of a process are nothing that `encoded` makes.

    Example:
        >>> decoded([np.array([128, 4], dtype=np.uint8)])
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.AgreedError: rank 0 has sent 2 bytes that are no JSON; all processes must run the same \
hvd_imagenet, in a network where nobody else reaches them
    """
    values = []
    for rank, data in enumerate(of_ranks):
        try:
            values.append(json.loads(data.tobytes().decode("ascii")))
        except (ValueError, RecursionError) as error:
            raise AgreedError(
                f"rank {rank} has sent {len(data)} bytes that are no JSON; all processes must run the same "
                "hvd_imagenet, in a network where nobody else reaches them",
                spokesman=0,
            ) from error
    return values


class SingleProcess:
    """A job of one process.

    Example:
        >>> SingleProcess().gather("mine")
        ['mine']
    """

    rank = 0
    size = 1
    local_rank = 0

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The values themselves."""
        return values

    def gather(self, value: Any) -> list[Any]:
        """A list of the one value, as it would arrive at another process."""
        return decoded([encoded(value)])


def together(communicator: Communicator, action: Callable[[], Result]) -> Result:
    """Runs an action on every process; where it fails on one with a user's mistake, it fails on all.

    Args:
        communicator: every process of it must make this call.
        action: takes no arguments and makes no collective call.

    Returns:
        The action's result on this process.

    Raises:
        AgreedError: on all processes, with the message of the lowest rank that failed.

    Example:
        >>> together(SingleProcess(), lambda: 1 + 1)
        2
    """
    result, message = None, None
    try:
        result = action()
    except UserError as error:
        message = str(error)
    messages = communicator.gather(message)
    for rank, told in enumerate(messages):
        if told is not None:
            raise AgreedError(told, spokesman=rank)
    return result  # type: ignore[return-value]


def share(images: int, communicator: Communicator) -> np.ndarray:
    """The images that this process validates: a contiguous part, the parts as equal as they can be.

    Args:
        images: number of validation images.
        communicator: the job's.

    Returns:
        int64 array of image numbers; empty on some processes if there are more of them than images.

    Example:
        >>> share(3, SingleProcess())
        array([0, 1, 2])
    """
    return np.array_split(np.arange(images), communicator.size)[communicator.rank]
