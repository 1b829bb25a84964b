"""Images that cannot be read: how many are passed over, and how all processes come to know of each."""

from collections.abc import Iterable

from hvd_imagenet.communicator import Communicator

STOP = "stop"
_SKIP = "skip="


def allowed_bad_images(policy: str) -> int:
    """How many files may be unreadable before the run stops.

    Args:
        policy: stop, or skip=N.

    Returns:
        N; 0 with stop.

    Raises:
        ValueError: another word, or an N that is no positive integer.

    Example:
        >>> allowed_bad_images("stop"), allowed_bad_images("skip=20")
        (0, 20)
    """
    number = policy.removeprefix(_SKIP)
    if policy.startswith(_SKIP) and number.isascii() and number.isdigit() and int(number) > 0:
        return int(number)
    if policy != STOP:
        raise ValueError(f"bad_images must be stop or skip=N with N of 1 or more, not {policy!r}")
    return 0


class BadImages:
    """The files of a run that could not be read, the same list on all processes.

    A process sees its own files only. It adds the number of those that are new to the sums that are reduced after
    every iteration anyway; where the total is not zero, and only there, all processes gather their names. The list
    depends on the stream alone, not on who met what.

    Args:
        allowed: how many there may be; 0: a reader raises at the first one.

    Attributes:
        rows: iteration, path and reason of each file, in the order in which the stream met them.

    Example:
        >>> from hvd_imagenet.communicator import SingleProcess
        >>> bad = BadImages(allowed=1)
        >>> bad.see("/d/1.JPEG", "truncated")
        >>> bad.see("/d/1.JPEG", "truncated")
        >>> new = bad.take(iteration=3)
        >>> bad.agree(3, new, SingleProcess()), bad.rows, bad.too_many
        (True, [(3, '/d/1.JPEG', 'truncated')], False)
    """

    def __init__(self, allowed: int = 0) -> None:
        self.allowed = allowed
        self.rows: list[tuple[int, str, str]] = []
        self._known: set[str] = set()
        self._fresh: list[tuple[str, str]] = []
        self._taken: dict[int, list[tuple[str, str]]] = {}

    def see(self, name: str, reason: str) -> None:
        """Takes a file that this process could not read; again and again if need be.

        Args:
            name: its path.
            reason: why not.
        """
        if name not in self._known:
            self._known.add(name)
            self._fresh.append((name, reason))

    def take(self, iteration: int) -> int:
        """How many files this process has seen for the first time since the last call.

        Args:
            iteration: t, whose batches it has taken since then.

        Returns:
            What the iteration's sums get.
        """
        fresh, self._fresh = self._fresh, []
        if fresh:
            self._taken[iteration] = fresh
        return len(fresh)

    def agree(self, iteration: int, total: float, communicator: Communicator) -> bool:
        """Makes an iteration's files known to all processes; call it on all of them, in the order of iterations.

        Args:
            iteration: t.
            total: of what `take` returned, over all processes.
            communicator: asked only if the total is not zero.

        Returns:
            Whether there are new rows.
        """
        mine = self._taken.pop(iteration, [])
        if not total:
            return False
        before = {name for _, name, _ in self.rows}
        found = {
            name: reason for of_rank in communicator.gather(mine) for name, reason in of_rank if name not in before
        }
        self.rows += [(iteration, name, found[name]) for name in sorted(found)]
        self._known.update(found)
        return bool(found)

    def restore(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Takes over the files that the run had met before it was stopped.

        Args:
            rows: of a checkpoint's manifest.
        """
        self.rows = [(iteration, name, reason) for iteration, name, reason in rows]
        self._known = {name for _, name, _ in self.rows}

    @property
    def too_many(self) -> bool:
        """Whether there are more than allowed."""
        return len(self.rows) > self.allowed
