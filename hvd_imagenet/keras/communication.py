"""Horovod as Keras' communicator: values, objects and variables; and how a rank leaves a job that has failed."""

import re
import sys
from collections import Counter
from types import TracebackType
from typing import Any

import keras
import numpy as np

from hvd_imagenet import job
from hvd_imagenet.communicator import decoded, encoded
from hvd_imagenet.errors import AgreedError
from hvd_imagenet.heartbeat import during
from hvd_imagenet.keras.backend import BACKEND, HorovodInternalError, collectives, horovod

BROADCAST_BYTES = 2**26


class HorovodCommunicator:
    """The processes of a Horovod job, or of one of its process sets; hvd.init() must have been called.

    Args:
        process_set: of Horovod; all processes if None.

    Example:
        >>> horovod.init()
        >>> HorovodCommunicator().sum(np.ones(2)).tolist() == [horovod.size(), horovod.size()]
        True
    """

    def __init__(self, process_set: Any = None) -> None:
        self.process_set = horovod.global_process_set if process_set is None else process_set
        self.rank: int = self.process_set.rank()
        self.size: int = self.process_set.size()
        self.local_rank: int = horovod.local_rank()

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The element-wise sum over all processes in float64."""
        values = np.array(values, dtype=np.float64)
        with during("waiting for the others"):
            return values if self.size == 1 else collectives.sum_arrays(values, "hvd_imagenet.sum", self.process_set)

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes in the order of their ranks; plain data."""
        of_ranks = [encoded(value)]
        if self.size > 1:
            with during("waiting for the others"):
                of_ranks = collectives.gather_bytes(of_ranks[0], "hvd_imagenet.gather", self.process_set)
        return decoded(of_ranks)


def broadcast_variables(variables: list[Any], root_rank: int, process_set: Any = None) -> None:
    """Gives every process the values that the variables have on one, in pieces of 64 MB instead of one by one.

    Args:
        variables: of Keras, or tf.Variable; the same ones in the same order on every process.
        root_rank: whose values are taken.
        process_set: of Horovod; all processes if None.

    Raises:
        AgreedError: on all processes, if their variables differ in number, shape or dtype.

    Example:
        >>> horovod.init()
        >>> broadcast_variables([keras.Variable([1.0, 2.0])], root_rank=0)
    """
    communicator = HorovodCommunicator(process_set)
    if communicator.size == 1:
        return
    values = [np.asarray(keras.ops.convert_to_numpy(variable), order="C") for variable in variables]
    mine = [[path(each), *describe(value)] for each, value in zip(variables, values, strict=True)]
    _agree_on_variables(communicator, mine)
    together = np.concatenate([value.reshape(-1).view(np.uint8) for value in values] or [np.zeros(0, np.uint8)])
    for start in range(0, len(together), BROADCAST_BYTES):
        piece = together[start : start + BROADCAST_BYTES]
        piece[:] = collectives.broadcast_array(piece, root_rank, "hvd_imagenet.broadcast", communicator.process_set)
    if communicator.rank == root_rank:
        return
    start = 0
    for variable, value in zip(variables, values, strict=True):
        part = together[start : start + value.nbytes].view(value.dtype).reshape(value.shape)
        variable.assign(collectives.tensor(part)) if hasattr(variable, "assign") else variable.copy_(
            collectives.tensor(part)
        )
        start += value.nbytes


def path(variable: Any) -> str:
    """The name of a variable that is unique in its model.

    Example:
        >>> path(keras.Variable(1.0, name="scale"))
        'scale'
    """
    return str(getattr(variable, "path", getattr(variable, "name", "?")))


def describe(value: Any) -> tuple[tuple[int, ...], str]:
    """Shape and dtype, as plain data.

    Example:
        >>> describe(np.zeros((2, 3)))
        ((2, 3), 'float64')
    """
    return tuple(int(length) for length in value.shape), keras.backend.standardize_dtype(value.dtype)


def _agree_on_variables(communicator: HorovodCommunicator, mine: list[list[Any]]) -> None:
    of_ranks = communicator.gather(mine)
    for rank, theirs in enumerate(of_ranks):
        if len(theirs) != len(of_ranks[0]):
            more, fewer = (rank, 0) if len(theirs) > len(of_ranks[0]) else (0, rank)
            raise AgreedError(
                f"broadcast: rank {rank} has {len(theirs)} variables, rank 0 has {len(of_ranks[0])}: "
                f"{_first_beyond(of_ranks[more], of_ranks[fewer])} of rank {more} is missing on rank {fewer}; "
                "every rank must build the same model and optimizer",
                spokesman=0,
            )
        for one, other in zip(theirs, of_ranks[0], strict=True):
            if one[1:] != other[1:]:
                raise AgreedError(
                    f"broadcast: {one[0]} is {one[2]}{list(one[1])} on rank {rank}, and {other[0]} is "
                    f"{other[2]}{list(other[1])} on rank 0; every rank must build the same model",
                    spokesman=0,
                )


def _first_beyond(longer: list[list[Any]], shorter: list[list[Any]]) -> str:
    """The name of the first variable that the other list lacks; numbers that Keras appends to names do not count."""
    left = Counter((without_numbers(name), *shape) for name, shape, _ in shorter)
    for name, shape, _ in longer:
        key = without_numbers(name), *shape
        if not left[key]:
            return f"{name} {list(shape)}"
        left[key] -= 1
    raise AssertionError("no variable is missing")


def without_numbers(name: str) -> str:
    """A variable's name without the numbers that Keras appends: they count what a rank has made before.

    Example:
        >>> without_numbers("dense_12/kernel")
        'dense/kernel'
    """
    return re.sub(r"_\d+\b", "", name)


def init(*arguments: Any, **options: Any) -> None:
    """Joins the job, and makes an uncaught exception of this process end it: the others would wait for ever.

    Args:
        arguments: those of Horovod's init().
        options: likewise.

    Raises:
        AgreedError: on all processes, if their Keras backends differ.

    Example:
        >>> before = sys.excepthook
        >>> init()
        >>> horovod.is_initialized()
        True
        >>> sys.excepthook = before
    """
    from hvd_imagenet.keras.compiling import adapt_keras

    horovod.init(*arguments, **options)
    abort_job_on_exception()
    adapt_keras()  # DistributedOptimizer is too late for the compile() of which it is an argument
    backends = HorovodCommunicator().gather(BACKEND)
    for rank, backend in enumerate(backends):
        if backend != backends[0]:
            raise AgreedError(
                f"rank {rank} runs Keras on {backend}, rank 0 on {backends[0]}; "
                "KERAS_BACKEND must be the same on every rank",
                spokesman=0,
            )


def abort_job_on_exception() -> None:
    """Makes an uncaught exception end the whole job: the other processes would wait for this one for ever.

    Example:
        >>> before = sys.excepthook
        >>> abort_job_on_exception()
        >>> sys.excepthook = before
    """
    job.abort_job_on_exception(
        lambda: (horovod.rank(), horovod.size()) if horovod.is_initialized() else None, HorovodInternalError
    )
    abort = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        # TensorFlow knows no class for it.
        if "Horovod has been shut down" in str(error) and not isinstance(error, HorovodInternalError):
            kind, error = HorovodInternalError, HorovodInternalError("Horovod has been shut down")
        abort(kind, error, trace)

    sys.excepthook = hook
