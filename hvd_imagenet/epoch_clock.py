"""How fast an epoch goes, and which share of it a process waits for its images."""

import time
from collections.abc import Generator
from contextlib import contextmanager


class EpochClock:
    """Counts the time of training, without validation and checkpoints.

    Example:
        >>> clock = EpochClock()
        >>> clock.wait_percent() is None
        True
    """

    def __init__(self) -> None:
        self._measures_waiting = False
        self.restart()

    def restart(self) -> None:
        """Begins anew: what has passed belongs to the epoch before, or was loading."""
        self._images = 0.0
        self._waited_s = 0.0
        self._since_s = time.monotonic()

    @contextmanager
    def paused(self) -> Generator[None, None, None]:
        """Time that passes within counts as none: a validation or a checkpoint."""
        started_s = time.monotonic()
        yield
        self._since_s += time.monotonic() - started_s

    @contextmanager
    def waiting(self) -> Generator[None, None, None]:
        """Time that passes within is spent waiting for images; but the first wait of all is the reader's start."""
        started_s = time.monotonic()
        yield
        if self._measures_waiting:
            self._waited_s += time.monotonic() - started_s
        self._measures_waiting = True

    def count(self, images: float) -> None:
        """Takes images that were trained on.

        Args:
            images: over all processes.
        """
        self._images += images

    def images_per_second(self) -> float:
        """Images a second since the last restart."""
        return self._images / self._elapsed_s()

    def wait_percent(self) -> float | None:
        """The share of the time since the last restart that this process waited; None if that is not measured."""
        return min(100.0, 100.0 * self._waited_s / self._elapsed_s()) if self._measures_waiting else None

    def _elapsed_s(self) -> float:
        return max(time.monotonic() - self._since_s, 1e-9)


def waiting_advice(percent: float, threads: int, cores: int) -> str:
    """What to do about a run that waits for its images.

    Args:
        percent: of an epoch's time.
        threads: that decode, in each process.
        cores: that each process may use.

    Returns:
        One line.

    Example:
        >>> waiting_advice(12.34, threads=2, cores=8)
        'waiting for images takes 12.3 % of the time: give more --threads (2 of 8 cores decode), make the images \
smaller (hvd-imagenet pack SRC DST --max-side 400), or copy them to a local disk'
        >>> "--threads" in waiting_advice(12.34, threads=8, cores=8)
        False
    """
    more = f"give more --threads ({threads} of {cores} cores decode), " if threads < cores else ""
    return (
        f"waiting for images takes {percent:.1f} % of the time: {more}make the images smaller "
        f"(hvd-imagenet pack SRC DST --max-side 400), or copy them to a local disk"
    )
