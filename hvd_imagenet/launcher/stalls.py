"""Who holds up or ends a job, judged from what the guards of its ranks report: pure functions."""

import signal
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hvd_imagenet.heartbeat import WAITING

# A rank that saves or validates alone is not slow.
_OF_A_STEP = ("reading", "computing", "updating")
_SLOW_S = 5.0
_SLOW_ITERATIONS = 10.0


class Failure(NamedTuple):
    """Why a job ended.

    Args:
        code: the exit code for it.
        reason: a line for the user; None where the rank has spoken for itself.
    """

    code: int
    reason: str | None


@dataclass
class RankState:
    """What is known of a rank.

    Args:
        rank: its number.
        host: it runs on.
        stopped_s: for how long it has been stopped (SIGSTOP); 0 if it runs.
        age_s: of its last heartbeat; None where there was none.
        iteration: that it was in.
        action: what it began to do then.
        ended: its exit code; None while it runs.
        silent: whether its host has not been heard of for long.
    """

    rank: int
    host: str
    stopped_s: float = 0.0
    age_s: float | None = None
    iteration: int | None = None
    action: str | None = None
    ended: int | None = None
    silent: bool = False

    @property
    def name(self) -> str:
        """As in messages."""
        return f"rank {self.rank} on {self.host}"

    @property
    def doing(self) -> str:
        """Action and iteration, as in messages."""
        action = self.action or "at work"
        return action if self.iteration is None else f"{action}, iteration {self.iteration}"

    @property
    def waits(self) -> bool:
        """Whether it waits for other ranks."""
        return (self.action or "").startswith(WAITING)

    @property
    def still_s(self) -> float:
        """For how long nothing has been heard of it."""
        return max(self.stopped_s, self.age_s or 0.0)

    @property
    def standstill(self) -> str:
        """What is said of it where it holds up the others, and was not stopped."""
        if self.age_s is None:
            return f"{self.name} has not begun"
        return f"{self.name} has been {self.doing}, for {self.age_s:.0f} s"

    @property
    def late(self) -> str:
        """What is said of it where the others wait for it."""
        how = "has been stopped" if self.stopped_s else f"has been {self.doing},"
        return f"{self.name} {how} for {self.still_s:.0f} s, and the others wait for it"


def stall(states: Sequence[RankState], timeout_s: float, start_timeout_s: float = 0) -> str | None:
    """Says who holds up a job that stands still.

    Args:
        states: of all ranks.
        timeout_s: for how long a rank may stand still; 0 for ever.
        start_timeout_s: the same for a job in which a rank has not begun its first iteration, where that is longer:
            importing a framework and listing images have no heartbeats. It does not excuse a stopped rank.

    Returns:
        A sentence, or None as long as the job moves.

    Example:
        >>> states = [RankState(0, "vm", age_s=11.0, iteration=7, action="reducing gradients"),
        ...           RankState(1, "vm", age_s=12.0, iteration=7, action="computing")]
        >>> stall(states, timeout_s=12.0)
        'rank 1 on vm has been computing, iteration 7, for 12 s; the others wait (reducing gradients, iteration 7)'
    """
    running = [state for state in states if state.ended is None]
    starting = any(state.age_s is not None and state.iteration is None for state in running)
    patience_s = max(timeout_s, start_timeout_s) if starting else timeout_s
    still = any(state.stopped_s >= timeout_s or (state.age_s or 0) >= patience_s for state in running)
    if not timeout_s or not still:
        return None
    # A program may have no heartbeats at all; but a rank without one for which others wait has not begun.
    all_have = any(state.waits for state in running)
    return _culprits([each for each in running if all_have or each.age_s is not None or each.stopped_s], states)


def _culprits(running: Sequence[RankState], states: Sequence[RankState]) -> str:
    stopped = [state for state in running if state.stopped_s]
    if stopped:
        return "; ".join(
            f"{state.name} has been stopped for {state.stopped_s:.0f} s ({state.doing})" for state in stopped
        )
    waiting, at_work = _parted(running)
    if at_work and (waiting or len(at_work) == 1):
        names = "; ".join(state.standstill for state in at_work)
        return names + (f"; the others wait ({waiting[0].doing})" if waiting else "")
    ended = [state for state in states if state.ended is not None]
    if ended and waiting:
        names = ", ".join(state.name for state in ended)
        return f"{names} ended while others wait for it: {waiting[0].name} has been {waiting[0].doing}"
    return _out_of_step(running)


def _parted(running: Sequence[RankState]) -> tuple[list[RankState], list[RankState]]:
    """Those that wait for others, and those among the rest that are furthest behind."""
    waiting = [state for state in running if state.waits]
    at_work = [state for state in running if not state.waits]
    furthest_behind = min((_iteration(state) for state in at_work), default=0)
    return waiting, [state for state in at_work if _iteration(state) == furthest_behind]


def _out_of_step(running: Sequence[RankState]) -> str:
    """Nobody is at work: the few that wait elsewhere than the many, or are ahead of them, have left something out."""
    groups: dict[str, list[RankState]] = defaultdict(list)
    for state in running:
        groups[state.doing].append(state)
    odd = min(groups.values(), key=lambda group: (len(group), -_iteration(group[0])))
    if len(groups) == 1:
        return f"all ranks have been {odd[0].doing}, for {min(state.still_s for state in odd):.0f} s"
    others = "; ".join(f"{len(group)} others are {doing}" for doing, group in groups.items() if group is not odd)
    names = ", ".join(state.name for state in odd)
    return (
        f"{names} is out of step, it is {odd[0].doing}; {others}; a collective was left out, or made by some ranks only"
    )


def _iteration(state: RankState) -> int:
    return -1 if state.iteration is None else state.iteration


def slow(states: Sequence[RankState], usual_s: float) -> RankState | None:
    """The rank that the others have been waiting for longer than usual.

    Args:
        states: of all ranks.
        usual_s: time of an iteration so far.

    Returns:
        The slowest such rank, None if there is none.

    Example:
        >>> states = [RankState(0, "vm", age_s=8.0, iteration=7, action="reducing gradients"),
        ...           RankState(1, "vm", age_s=9.0, iteration=7, action="computing")]
        >>> slow(states, usual_s=0.2) is states[1], slow(states, usual_s=3.0)
        (True, None)
    """
    running = [state for state in states if state.ended is None and state.age_s is not None]
    waiting, at_work = _parted(running)
    at_work = [state for state in at_work if (state.action or "").startswith(_OF_A_STEP)]
    if not waiting or not at_work:
        return None
    slowest = max(at_work, key=lambda state: state.still_s)
    patience_s = max(_SLOW_S, _SLOW_ITERATIONS * usual_s)
    return slowest if min(state.still_s for state in [slowest, *waiting]) >= patience_s else None


class Pace:
    """The usual time of an iteration, measured after the first few, which are slower.

    Example:
        >>> pace = Pace()
        >>> for iteration in range(20):
        ...     pace.see(iteration, now_s=iteration * 0.5)
        >>> pace.usual_s
        0.5
    """

    _LEFT_OUT = 3
    _NEEDED = 5

    def __init__(self) -> None:
        self._first: int | None = None
        self._begin: tuple[int, float] | None = None
        self._last = (0, 0.0)

    def see(self, iteration: int, now_s: float) -> None:
        """Takes note of the iteration of the rank that is furthest behind.

        Args:
            iteration: as its heartbeat says.
            now_s: of any clock.
        """
        if self._first is None:
            self._first = iteration
        if self._begin is None:
            if iteration >= self._first + self._LEFT_OUT:
                self._begin = self._last = iteration, now_s
        elif iteration > self._last[0]:
            self._last = iteration, now_s

    @property
    def usual_s(self) -> float | None:
        """Seconds an iteration; None as long as too few were seen."""
        if self._begin is None or self._last[0] < self._begin[0] + self._NEEDED:
            return None
        return (self._last[1] - self._begin[1]) / (self._last[0] - self._begin[0])


def death(state: RankState) -> str:
    """The line about a rank that a signal has ended.

    Args:
        state: with the exit code 128 + the signal.

    Returns:
        Who, by what, and while doing what.

    Example:
        >>> death(RankState(1, "vm", iteration=7, action="computing", ended=139))
        'rank 1 on vm was ended by SIGSEGV (computing, iteration 7)'
    """
    assert state.ended is not None
    number = state.ended - 128
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    advice = "; out of memory, perhaps" if number == signal.SIGKILL else ""
    return f"{state.name} was ended by {name} ({state.doing}){advice}"


def lost(state: RankState, why: str) -> str:
    """The line about a rank of which nothing is heard any more.

    Args:
        state: what was heard last.
        why: what is known of it.

    Returns:
        Who, why, while doing what, and what can be done.

    Example:
        >>> lost(RankState(1, "vm"), "its guard is gone")  # doctest: +NORMALIZE_WHITESPACE
        'rank 1 on vm is lost: its guard is gone (at work); look at the log of vm, or have the job started again with
        --max-restarts'
    """
    remedy = f"look at the log of {state.host}, or have the job started again with --max-restarts"
    return f"{state.name} is lost: {why} ({state.doing}); {remedy}"
