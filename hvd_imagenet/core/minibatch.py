"""The minibatch of one SGD iteration: kn images, made of k virtual workers of n images each."""

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction


def positive_integer(name: str, value: int) -> None:
    """Raises ValueError unless value is an integer of 1 or more.

    Args:
        name: what the value is called, for the message.
        value: what was received.

    Raises:
        ValueError: it is no positive integer.

    Example:
        >>> positive_integer("processes", 0)
        Traceback (most recent call last):
        ...
        ValueError: processes must be an integer of 1 or more, not 0
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer of 1 or more, not {value!r}")


@dataclass(frozen=True)
class Minibatch:
    """The images of one SGD iteration, whatever the number of processes that share them (paper, section 2).

    Args:
        size: kn, images in one iteration.
        per_worker: n, images over which one virtual worker computes batch normalisation statistics.

    Raises:
        ValueError: a number is not a positive integer, or size is no multiple of per_worker.

    Example:
        >>> Minibatch(size=8192, per_worker=32).workers
        256
        >>> Minibatch(size=100, per_worker=32)
        Traceback (most recent call last):
        ...
        ValueError: minibatch must be a multiple of per_worker, but 100 is not a multiple of 32; nearest: 96 or 128
    """

    size: int
    per_worker: int

    def __post_init__(self) -> None:
        positive_integer("minibatch", self.size)
        positive_integer("per_worker", self.per_worker)
        if self.size % self.per_worker:
            below = self.size // self.per_worker * self.per_worker
            nearest = f"{below} or {below + self.per_worker}" if below else f"{self.per_worker}"
            raise ValueError(
                f"minibatch must be a multiple of per_worker, but {self.size} is not a multiple of "
                f"{self.per_worker}; nearest: {nearest}"
            )

    @property
    def workers(self) -> int:
        """k, the number of virtual workers."""
        return self.size // self.per_worker

    def placement(self, processes: int) -> tuple[range, ...]:
        """Which virtual workers each process hosts: a contiguous block each, the first ones longer by one.

        Args:
            processes: number of processes, from 1 to the number of workers.

        Returns:
            One range of worker indices a process.

        Raises:
            ValueError: processes is not positive or exceeds the number of workers.

        Example:
            >>> Minibatch(size=14, per_worker=2).placement(3)
            (range(0, 3), range(3, 5), range(5, 7))
        """
        positive_integer("processes", processes)
        if processes > self.workers:
            raise ValueError(
                f"processes must not exceed the number of workers, but {processes} processes would share "
                f"{self.workers} workers (minibatch {self.size} / per_worker {self.per_worker}); "
                f"use {self.workers} processes at most or a smaller per_worker"
            )
        share, longer = divmod(self.workers, processes)
        starts = [process * share + min(process, longer) for process in range(processes + 1)]
        return tuple(range(start, stop) for start, stop in itertools.pairwise(starts))

    def iterations(self, images: int, epochs: float) -> int:
        """⌈E·N/kn⌉, the iterations of a run; the last one is full and reads on into the next permutation.

        Args:
            images: N, number of training images.
            epochs: E, passes over the training images; may be fractional.

        Returns:
            Number of iterations.

        Raises:
            ValueError: images or epochs is not positive.

        Example:
            >>> Minibatch(size=8192, per_worker=32).iterations(images=1_281_167, epochs=90)
            14076
        """
        positive_integer("images", images)
        if not epochs > 0 or math.isinf(epochs):
            raise ValueError(f"epochs must be a finite number above 0, not {epochs!r}")
        # A decimal such as 0.1 means a tenth, not the binary fraction a little above it.
        return math.ceil(Fraction(str(epochs)) * images / self.size)

    def progress_epochs(self, iteration: int, images: int) -> float:
        """t·kn/N, the passes over the training images that have been made before iteration t.

        Args:
            iteration: t, counted from 0.
            images: N, number of training images.

        Returns:
            Fractional epochs.

        Example:
            >>> Minibatch(size=64, per_worker=32).progress_epochs(iteration=3, images=128)
            1.5
        """
        return iteration * self.size / images
