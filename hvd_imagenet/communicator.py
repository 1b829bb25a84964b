"""The few collectives that training needs, passed in so that nobody reads a rank from a global."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

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
        """The values of all processes in the order of their ranks, on every process; plain data only."""


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
        """A list of the one value."""
        return [value]


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
