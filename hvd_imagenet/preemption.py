"""A run that is told to leave: all processes agree on the iteration, save it and stop.

SIGTERM and SIGUSR1 are what Slurm, Kubernetes and spot instances send before they take a machine away. A signal may
come to one process alone; it is told to the others with the sums that every iteration reduces anyway, and about once a
second during a validation.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from types import FrameType

import numpy as np

from hvd_imagenet.communicator import Communicator
from hvd_imagenet.data.reader import Batch, Reader, Request
from hvd_imagenet.errors import Preempted
from hvd_imagenet.heartbeat import beat

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
VALIDATION_BATCH_IMAGES = 64
_SECONDS_BETWEEN_QUESTIONS = 1.0
_SCONTROL_TIMEOUT_S = 20.0


class Signals:
    """The signals that have come to this process, and what all processes know of them.

    Attributes:
        agreed: the signal that all processes know to have come to one of them, or None.

    Example:
        >>> signals = Signals()
        >>> signals.watch()
        >>> signal.raise_signal(signal.SIGUSR1)
        >>> signals.of_this_process()
        [0.0, 1.0]
        >>> signals.agree(signals.of_this_process())
        >>> signals.agreed.name
        'SIGUSR1'
        >>> for number in SIGNALS:
        ...     _ = signal.signal(number, signal.SIG_DFL)
    """

    def __init__(self) -> None:
        self._received: set[int] = set()
        self.agreed: signal.Signals | None = None

    def watch(self) -> None:
        """Takes SIGTERM and SIGUSR1 from now on, however often they come; on the main thread."""
        for number in SIGNALS:
            signal.signal(number, self._receive)
            signal.siginterrupt(number, False)  # what waits in MPI or in a file system need not know of it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # those that have come before, held back by the guard

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received.add(number)

    def of_this_process(self) -> list[float]:
        """What this process adds to the sums of all: for each of SIGNALS whether it has come."""
        return [float(number in self._received) for number in SIGNALS]

    def agree(self, totals: Iterable[float]) -> None:
        """Takes the sums over all processes of `of_this_process`.

        Args:
            totals: one for each of SIGNALS.
        """
        for number, total in zip(SIGNALS, totals, strict=True):
            if total and self.agreed is None:
                self.agreed = number

    def stop_if_agreed(self) -> None:
        """Raises Preempted if all processes know of a signal.

        Raises:
            Preempted: on all processes at the same iteration.
        """
        if self.agreed is not None:
            raise Preempted(self.agreed.name)


class WatchedReader:
    """A reader of validation images that stops on all processes together when a signal has come to any of them.

    A validation has no reduction until its end, and may take longer than the time that is left. All processes ask
    each other equally often, however many images they have: after as many batches as take about a second.

    Args:
        reader: of the validation images; asked for batches of VALIDATION_BATCH_IMAGES at most.
        images: how many there are, over all processes.
        signals: of this process.
        communicator: the job's.
    """

    def __init__(self, reader: Reader, images: int, signals: Signals, communicator: Communicator) -> None:
        self._reader, self._signals, self._communicator = reader, signals, communicator
        of_one_process = -(-images // communicator.size)
        self._rounds = -(-of_one_process // VALIDATION_BATCH_IMAGES)
        self._rounds_between = 1

    def batches(self, requests: Iterable[Request]) -> Generator[Batch, None, None]:
        """As Reader.batches; call it on all processes together.

        Args:
            requests: of this process; no more than the one with the most images has.

        Yields:
            Pixels and labels.

        Raises:
            Preempted: a signal has come; on all processes.
        """
        self._signals.stop_if_agreed()
        self._since_s, self._passed = time.monotonic(), 0
        done = 0
        with closing(self._reader.batches(requests)) as batches:
            for batch in batches:
                beat("validating")
                yield batch
                done += 1
                self._end_round()
        beat("validating")
        for _ in range(done, self._rounds):
            self._end_round()

    def _end_round(self) -> None:
        self._passed += 1
        if self._passed < self._rounds_between:
            return
        now_s = time.monotonic()
        seconds = (now_s - self._since_s) / self._passed
        # The time is summed too: all processes must agree on when they ask again.
        *totals, total_s = self._communicator.sum(np.array([*self._signals.of_this_process(), seconds])).tolist()
        of_a_round_s = max(total_s / self._communicator.size, 1e-3)
        self._rounds_between = max(1, int(_SECONDS_BETWEEN_QUESTIONS / of_a_round_s))
        self._since_s, self._passed = now_s, 0
        self._signals.agree(totals)
        self._signals.stop_if_agreed()


def requeue_command() -> list[str]:
    """The command that puts this process's Slurm job back into the queue.

    Returns:
        An argument list; a job of an array by its array's number and its own.

    Raises:
        LookupError: this is no Slurm job, or there is no scontrol.

    Example:
        >>> os.environ["SLURM_JOB_ID"] = ""
        >>> requeue_command()
        Traceback (most recent call last):
        ...
        LookupError: SLURM_JOB_ID is not set: this is no Slurm job
        >>> del os.environ["SLURM_JOB_ID"]
    """
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        raise LookupError("SLURM_JOB_ID is not set: this is no Slurm job")
    scontrol = shutil.which("scontrol")
    if scontrol is None:
        raise LookupError("scontrol is not on PATH")
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return [scontrol, "requeue", f"{array}_{task}" if array and task else job]


def requeue() -> str:
    """Puts this process's Slurm job back into the queue.

    Returns:
        What came of it, as the end of a sentence.

    Example:
        >>> os.environ["SLURM_JOB_ID"] = ""
        >>> requeue()
        'not requeued: SLURM_JOB_ID is not set: this is no Slurm job'
        >>> del os.environ["SLURM_JOB_ID"]
    """
    try:
        command = requeue_command()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SCONTROL_TIMEOUT_S, check=False
        )
    except (LookupError, OSError, subprocess.TimeoutExpired) as error:
        return f"not requeued: {error}"
    if done.returncode != 0:
        return f"not requeued: scontrol says: {' '.join((done.stderr or done.stdout).split())}"
    return f"Slurm job {command[-1]} is requeued"
