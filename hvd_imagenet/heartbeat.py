"""A sign of life of this process: what it does, at which iteration, since when, in memory shared with its guard.

The guard that `launch` puts beside each process reads it from outside, so that a stopped process, or one whose
interpreter is held, is seen as well. Where no guard started this process, all of it does nothing.

`beat` is for loops of your own too. A process that has beaten is expected to go on: whatever takes longer than
`--stall-timeout` needs beats of its own. The adapters say only where they wait, and only after a first beat: what a
program does between its steps, for how long, and on which ranks, they cannot know.
"""

import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

VARIABLE = "HVD_IMAGENET_HEARTBEAT_FD"
"""Names the inherited descriptor of the shared memory."""

WAITING = ("reducing", "waiting")
"""First words of actions that wait for other ranks."""

_MEMORY = "hvd_imagenet_heartbeat"
_BYTES = mmap.PAGESIZE
_ACTION_BYTES = 64
_RECORD = struct.Struct(f"<dqq{_ACTION_BYTES}s")
_SAVING_AT = _RECORD.size
_NO_ITERATION = -1
_last = ("", _NO_ITERATION)


class Beat(NamedTuple):
    """The last sign of life of a process.

    Args:
        time_s: of the machine's monotonic clock.
        iteration: that it was in; None before the first.
        action: what it began to do.
        pid: of the process, which may be a child of the one that the guard has started.
    """

    time_s: float
    iteration: int | None
    action: str
    pid: int


def beat(action: str, iteration: int | None = None) -> None:
    """Says what this process does from now on; takes about a microsecond.

    Where it does so for longer than `--stall-timeout`, `launch` ends the job.

    Args:
        action: as in "rank 1 has been … for 600 s": "computing", "reading images"; up to 64 bytes. One that begins
            with a word of WAITING waits for other ranks, and makes no culprit of a rank that stands still.
        iteration: counted from 0; None for that of the beat before.

    Example:
        >>> beat("computing", iteration=3)
    """
    global _last
    if _page is None:
        return
    _last = action, _last[1] if iteration is None else iteration
    # The reader may see half of a record that is being written; it sees the whole one soon after.
    _RECORD.pack_into(_page, 0, time.monotonic(), _last[1], os.getpid(), action.encode()[:_ACTION_BYTES])


@contextmanager
def during(action: str, iteration: int | None = None) -> Iterator[None]:
    """Says what this process does within a block, and behind it that it does again what it did before.

    Where there was no beat yet it says nothing: a program whose steps have none would seem to stand still afterwards.

    Args:
        action: as of `beat`.
        iteration: likewise.

    Example:
        >>> with during("waiting for the others"):
        ...     pass
    """
    before, _ = _last
    if not before:
        yield
        return
    beat(action, iteration)
    try:
        yield
    finally:
        beat(before)


@contextmanager
def saving() -> Iterator[None]:
    """Says that this process, in whatever thread, writes what must not be lost: its guard lets it finish.

    Example:
        >>> with saving():
        ...     pass
    """
    if _page is None:
        yield
        return
    _page[_SAVING_AT] = 1
    try:
        yield
    finally:
        _page[_SAVING_AT] = 0


def watched() -> bool:
    """Whether a guard reads this process's heartbeats.

    Example:
        >>> watched()
        False
    """
    return _page is not None


def create() -> tuple[int, mmap.mmap]:
    """Makes the shared memory of one process, before it is started.

    Returns:
        The descriptor that the process inherits, its number in VARIABLE; and the memory, for `read`.

    Example:
        >>> descriptor, memory = create()
        >>> read(memory) is None
        True
        >>> os.close(descriptor)
    """
    descriptor = os.memfd_create(_MEMORY, 0)
    os.ftruncate(descriptor, _BYTES)
    return descriptor, mmap.mmap(descriptor, _BYTES)


def read(memory: mmap.mmap) -> Beat | None:
    """The last beat.

    Args:
        memory: of `create`.

    Returns:
        None where there was none.
    """
    time_s, iteration, pid, action = _RECORD.unpack_from(memory)
    if time_s == 0:
        return None
    words = action.rstrip(b"\0").decode(errors="replace")
    return Beat(time_s, None if iteration == _NO_ITERATION else iteration, words, pid)


def is_saving(memory: mmap.mmap) -> bool:
    """Whether the process is within a block of `saving`.

    Args:
        memory: of `create`.
    """
    return bool(memory[_SAVING_AT])


def _inherited() -> mmap.mmap | None:
    """The memory that a guard has given to this process."""
    number = os.environ.get(VARIABLE, "")
    try:
        # A program that this process started has the variable too, but another file, or none, behind the number.
        if number.isdecimal() and _MEMORY in os.readlink(f"/proc/self/fd/{number}"):
            return mmap.mmap(int(number), _BYTES)
    except (OSError, ValueError):
        pass
    return None


_page = _inherited()
