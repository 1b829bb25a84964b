"""How a process leaves a job that it cannot finish: at once, so that no other waits for it."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, TypeVar

from hvd_imagenet.checkpoint import WRITER_THREAD
from hvd_imagenet.communicator import Communicator
from hvd_imagenet.errors import AgreedError, Preempted, UserError
from hvd_imagenet.heartbeat import during

Result = TypeVar("Result")
_MISMATCH = "Mismatched"  # so Horovod begins what it says of shapes, dtypes and operations that differ
_LAST_CHECKPOINT_S = 5.0  # within it one that is being written is whole, unless the disk hangs
_TURN_S, _TURNS = 0.75, 5  # longer than a guard waits between the two
AFTER_SPOKESMAN_S = 3
"""The launcher ends a job within this time of the spokesman's exit; were there none, the others speak then."""


def abort_job(message: str, exit_code: int) -> NoReturn:
    """Ends this process without waiting for the others; its launcher ends them then.

    Args:
        message: for standard error.
        exit_code: of this process, not 0.
    """
    print(message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    for thread in threading.enumerate():
        if thread.name == WRITER_THREAD:
            thread.join(_LAST_CHECKPOINT_S)
    os._exit(exit_code)  # a plain exit would wait in Horovod's shutdown for the others


def abort_job_on_exception(rank_and_size: Callable[[], tuple[int, int] | None], lost_job: type[BaseException]) -> None:
    """Makes an uncaught exception end the whole job: the other processes would wait for this one for ever.

    A user's mistake is one line, `error: …`, and exit code 2, as from the commands.

    Args:
        rank_and_size: of this process; None before the job is joined and after it is left.
        lost_job: what a collective raises when another process has gone.

    Example:
        >>> before = sys.excepthook
        >>> abort_job_on_exception(lambda: None, ConnectionError)
        >>> sys.excepthook = before
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        member = rank_and_size()
        if isinstance(error, UserError):
            if isinstance(error, AgreedError) and member is not None and member[0] != error.spokesman:
                time.sleep(AFTER_SPOKESMAN_S)
            abort_job(f"error: {error}", exit_code=2)
        if member is not None and member[1] > 1:
            print(f"rank {member[0]} of {member[1]} on {os.uname().nodename}:", file=sys.stderr)
        if issubclass(kind, KeyboardInterrupt):
            abort_job("interrupted", exit_code=130)
        if isinstance(error, lost_job) and _MISMATCH in str(error):
            abort_job(f"error: the processes do not reduce the same tensors: {error}".splitlines()[0], exit_code=1)
        if isinstance(error, lost_job):
            why = "its own message says why; without one, it has made fewer steps than this one"
            abort_job(f"another process has left the job ({why}): {error}".splitlines()[0], exit_code=1)
        abort_job("".join(traceback.format_exception(kind, error, trace)).rstrip(), exit_code=1)

    sys.excepthook = hook


def in_job(communicator: Communicator, leave: Callable[[], None], action: Callable[[], Result]) -> Result:
    """Runs what every process of a job does, and ends the job so that no process waits for another.

    Args:
        communicator: the job's.
        leave: leaves the job where all processes do so together: hvd.shutdown.
        action: raises AgreedError on all processes together, UserError perhaps on some of them.

    Returns:
        The action's result.

    Raises:
        AgreedError: a mistake of the user that all processes know of.
        Preempted: all processes have agreed to leave.

    Example:
        >>> from hvd_imagenet.communicator import SingleProcess
        >>> in_job(SingleProcess(), leave=lambda: None, action=lambda: 1 + 1)
        2
    """

    def leave_together() -> None:
        with during("waiting for the others"):
            leave()

    try:
        result = action()
    except (AgreedError, Preempted):
        leave_together()  # else the exit of the one that tells the user would wait for the others
        raise
    except UserError as error:
        if communicator.size > 1:
            # Ranks that meet bad images in one iteration speak in turn, and the first ends the job before the next:
            # its guard asks a rank to go, in vain where a run has taken that for a preemption, and ends it then.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(_TURN_S * (1 + min(communicator.rank, _TURNS)))
        abort_job(f"error: {error}", exit_code=2)
    leave_together()
    return result
