"""Iterations whose loss or gradient is no finite number: all processes stop before the update, or pass over it.

A number that is not finite stays one in a sum, whatever process it comes from: all processes see the same in the
reduced loss and the reduced gradient, and need not ask each other.
"""

import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from hvd_imagenet.communicator import Communicator
from hvd_imagenet.errors import AgreedError
from hvd_imagenet.run_folder import NONFINITE, RunFolder

_NAMES_SHOWN = 2


class _OfRank(NamedTuple):
    host: str
    images: list[str]


class Nonfinite:
    """The iterations of a run that were passed over; the same on all processes.

    Args:
        allowed: how many there may be; 0: the run stops at the first one.

    Attributes:
        skipped: these iterations.

    Example:
        >>> Nonfinite(allowed=2).skipped
        []
    """

    def __init__(self, allowed: int = 0) -> None:
        self.allowed = allowed
        self.skipped: list[int] = []

    def meet(
        self, iteration: int, images: list[str], communicator: Communicator, folder: RunFolder | None = None
    ) -> str:
        """Passes over an iteration, if there may be one more; call it on all processes together.

        Args:
            iteration: t.
            images: names of those images of this process whose loss or gradient is no finite number; it may have none.
            communicator: the job's.
            folder: on rank 0.

        Returns:
            What to say of it.

        Raises:
            AgreedError: there are more than allowed; on all processes.
        """
        of_ranks = [_OfRank(*each) for each in communicator.gather((os.uname().nodename, images))]
        path = None
        if folder is not None:
            folder.nonfinite((iteration, rank, name) for rank, each in enumerate(of_ranks) for name in each.images)
            folder.flush()  # the run may end here
            path = str(folder.path / NONFINITE)
        what = _describe(iteration, of_ranks, communicator.gather(path)[0])
        if len(self.skipped) < self.allowed:
            self.skipped.append(iteration)
            return f"{what}; no update is made ({len(self.skipped)} of --skip-nonfinite {self.allowed})"
        more = f"--skip-nonfinite {self.allowed}: one more: " if self.allowed else ""
        remedy = "mend these images, " if any(each.images for each in of_ranks) else ""
        raise AgreedError(
            f"{more}{what}; lower --reference-lr, {remedy}or pass over more such iterations with --skip-nonfinite N",
            spokesman=0,
        )


def _describe(iteration: int, of_ranks: list[_OfRank], path: str | None) -> str:
    concerned = {rank: each for rank, each in enumerate(of_ranks) if each.images}
    if not concerned:
        return (
            f"iteration {iteration}: the sum of the gradients is no finite number, though each process's own is; with "
            f"--compression fp16 it must stay below 65504"
        )
    rank, of_rank = next(iter(concerned.items()))
    shown = ", ".join(of_rank.images[:_NAMES_SHOWN])
    total = sum(len(each.images) for each in concerned.values())
    others = f" and {total - _NAMES_SHOWN} more" if total > _NAMES_SHOWN else ""
    ranks = f"rank {rank} ({of_rank.host})" if len(concerned) == 1 else f"ranks {', '.join(map(str, concerned))}"
    listed = f", listed in {path}" if path else ""
    return f"iteration {iteration}: loss or gradient on {ranks} is no finite number, of {shown}{others}{listed}"


def all_finite(arrays: Iterable[np.ndarray]) -> bool:
    """Whether all numbers are finite.

    Args:
        arrays: floating point.

    Returns:
        False at the first array with a NaN or an infinity.

    Example:
        >>> all_finite([np.ones(2), np.zeros((0, 3))]), all_finite([np.array([1.0, np.inf])])
        (True, False)
    """
    for array in arrays:
        flat = np.ravel(array)
        # One pass, without an array of booleans; it may overflow where all numbers are finite.
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.dot(flat, flat)
        if not np.isfinite(squares) and not np.isfinite(flat).all():
            return False
    return True


def refuse_nonfinite(finite: bool, iteration: int) -> None:
    """Keeps weights that are no numbers out of checkpoints; all processes have the same ones.

    Args:
        finite: whether weights, momentum and running averages are.
        iteration: whose checkpoint is wanted.

    Raises:
        AgreedError: they are not.

    Example:
        >>> refuse_nonfinite(True, iteration=7)
    """
    if not finite:
        raise AgreedError(
            f"after {iteration} iterations weights, momentum or running averages are no finite numbers: no checkpoint "
            f"is written, the last one stays; lower --reference-lr, or lengthen --warmup-epochs",
            spokesman=0,
        )
