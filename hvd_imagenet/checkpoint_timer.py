"""When a checkpoint is due by the clock, so that no more than so many minutes of work can be lost."""

import time
from collections.abc import Callable


class CheckpointTimer:
    """Counts the minutes since the last checkpoint.

    The clocks of processes differ: one of them asks its own, and tells the others with the sums of an iteration.

    Args:
        interval_minutes: between checkpoints; None for none by the clock.
        clock_s: seconds, from any beginning.

    Attributes:
        agreed: whether all processes know that one is due.

    Example:
        >>> now_s = 0.0
        >>> timer = CheckpointTimer(interval_minutes=2, clock_s=lambda: now_s)
        >>> timer.due
        False
        >>> now_s = 120.0
        >>> timer.due
        True
        >>> timer.restart()
        >>> timer.due
        False
    """

    def __init__(self, interval_minutes: float | None = None, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._interval_minutes, self._clock_s = interval_minutes, clock_s
        self.restart()

    def restart(self) -> None:
        """A checkpoint has been written, or the run begins."""
        self._since_s = self._clock_s()
        self.agreed = False

    @property
    def due(self) -> bool:
        """Whether the interval has passed, by this process's clock."""
        return self._interval_minutes is not None and self._clock_s() - self._since_s >= 60.0 * self._interval_minutes
