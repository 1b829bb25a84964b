"""The process between the launcher and one rank: `python -m hvd_imagenet.launcher.guard PROGRAM …`.

It starts the rank, reads its heartbeat from outside, tells `launch` about both, ends the rank when it is told to or
when `launch` is gone, and ends with the rank's exit code. The kernel ends the rank if the guard is killed. Without a
monitor, as where somebody runs the line of `launch --dry-run`, it becomes the program itself.
"""

import ctypes
import os
import select
import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from hvd_imagenet import heartbeat
from hvd_imagenet.launcher.environment import MONITOR_VARIABLE, SECRET_VARIABLE, launched_rank

if TYPE_CHECKING:
    from hvd_imagenet.launcher.guard_link import Link

REPORT_INTERVAL_S = 1.0
KILL_AFTER_S = 0.5
"""From asking the rank to end (SIGTERM) to ending it (SIGKILL); mpirun itself would give it a quarter of a second."""
SAVED_WITHIN_S = 5.0
"""For how much longer a rank that is told to end may write the checkpoint that it has begun."""

_TRY_AGAIN_S = 0.1
_TRAIN = ["-m", "hvd_imagenet", "train"]
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_FORWARDED = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip


class Guard:
    """A rank as its parent sees it.

    Args:
        program: the rank's, with its arguments.
    """

    def __init__(self, program: list[str]) -> None:
        self._told_to_end = False
        self._end_at_s = self._saved_by_s = float("inf")
        self._asked = False
        self._stopped_since_s: float | None = None
        self._code: int | None = None
        self._by_signal = False
        self._wake, wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        descriptor, self._memory = heartbeat.create()
        libc = ctypes.CDLL(None)
        # What the rank has started and left behind becomes a child of this process, which can then end it.
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        guard = os.getpid()
        self._rank = os.fork()
        if self._rank == 0:
            os.environ[heartbeat.VARIABLE] = str(descriptor)
            _become(program, guard, libc)
        os.close(descriptor)
        for number in _FORWARDED:
            signal.signal(number, self._forward)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        """Passes a signal on to the rank and what it has started."""
        self._told_to_end |= number != signal.SIGUSR1 and number != signal.SIGUSR2
        _signal_group(self._rank, number)

    def watch(self, link: "Link") -> int:
        """Reports and obeys until the rank has ended.

        Args:
            link: to the monitor.

        Returns:
            The exit code of the rank, 128 + the signal if one has ended it.
        """
        report_at_s = 0.0
        while self._code is None:
            now_s = time.monotonic()
            if now_s >= report_at_s:
                told = link.tell(**self._status(now_s))
                report_at_s = now_s + (REPORT_INTERVAL_S if told else _TRY_AGAIN_S)
            if now_s >= self._end_at_s:
                self._end(now_s)
            pause_s = max(0.0, min(report_at_s, self._end_at_s) - now_s)
            select.select([self._wake, *link.readable], [], [], pause_s)
            self._drain()
            for command in link.commands():
                self._obey(command)
            self._reap()
        if self._code != 0:
            self._end_what_is_left()
        last = self._status(time.monotonic())
        link.tell_end(**last, ended=self._code, by_signal=self._by_signal, told=self._told_to_end)
        return self._code

    def _drain(self) -> None:
        try:
            while os.read(self._wake, 4096):
                pass
        except BlockingIOError:
            pass

    def _obey(self, command: int) -> None:
        """Passes a signal on; 0 ends the rank."""
        if command:
            _signal_group(self._rank, command)
            return
        self._told_to_end = True
        if self._end_at_s == float("inf"):
            self._end_at_s = time.monotonic()
            self._saved_by_s = self._end_at_s + SAVED_WITHIN_S

    def _end(self, now_s: float) -> None:
        """Ends the rank, politely first; a checkpoint that it writes is waited for, unless it has been stopped."""
        if heartbeat.is_saving(self._memory) and now_s < self._saved_by_s and self._stopped_since_s is None:
            self._end_at_s = now_s + _TRY_AGAIN_S
            return
        _signal_group(self._rank, signal.SIGKILL if self._asked else signal.SIGTERM)
        self._asked = True
        self._end_at_s = now_s + KILL_AFTER_S

    def _reap(self) -> None:
        """Takes the exit codes of the rank and of what it has left behind."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._rank:
                self._by_signal = os.WIFSIGNALED(status)
                self._code = 128 + os.WTERMSIG(status) if self._by_signal else os.waitstatus_to_exitcode(status)

    def _end_what_is_left(self) -> None:
        """Ends the processes that a failed rank has started: nobody waits for them any more."""
        _signal_group(self._rank, signal.SIGKILL)
        give_up_at_s = time.monotonic() + KILL_AFTER_S
        while (left := _children()) and time.monotonic() < give_up_at_s:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
            self._reap()  # what these had started becomes a child in turn

    def _status(self, now_s: float) -> dict[str, object]:
        """What the monitor is told every second."""
        beat = heartbeat.read(self._memory)
        pid = beat.pid if beat is not None else self._rank
        if _state(pid) != "T":
            self._stopped_since_s = None
        elif self._stopped_since_s is None:
            self._stopped_since_s = now_s
        return {
            "pid": pid,
            "stopped_s": 0.0 if self._stopped_since_s is None else now_s - self._stopped_since_s,
            "age_s": None if beat is None else now_s - beat.time_s,
            "iteration": None if beat is None else beat.iteration,
            "action": None if beat is None else beat.action,
        }


def _become(program: list[str], guard: int, libc: ctypes.CDLL) -> NoReturn:
    """Makes the forked process the rank: in a session of its own, and ended by the kernel if its guard is.

    Linux shares the cores between sessions first (autogroup). In one session a rank that waits, and has MPI call
    sched_yield in a loop, has kept guards from running for 20 s and more (Linux 6.18, more ranks than cores).
    """
    os.setsid()
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != guard:
        os._exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # ignored by Python, and would stay so
    if program[1:4] == _TRAIN:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # waits until the run heeds it, and can be requeued
    _run(program)


def _run(program: list[str]) -> NoReturn:
    """Becomes the program."""
    try:
        os.execvp(program[0], program)
    except OSError as error:
        print(f"error: launch: {program[0]}: {error.strerror} on {os.uname().nodename}", file=sys.stderr, flush=True)
        os._exit(127)


def _signal_group(leader: int, number: int) -> None:
    """Sends a signal to the rank's process group, or to the rank itself before it has made the group."""
    for send in (os.killpg, os.kill):
        try:
            send(leader, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            pass
        return


def _children() -> list[int]:
    """The processes whose parent is this one."""
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        return [int(pid) for pid in children.read().split()]


def _state(pid: int) -> str:
    """The state of a process as the kernel writes it, T if it is stopped; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def main(program: list[str]) -> NoReturn:
    """Runs a program under guard, and ends with its exit code.

    Args:
        program: with its arguments.
    """
    address, secret = os.environ.pop(MONITOR_VARIABLE, None), os.environ.pop(SECRET_VARIABLE, None)
    if address is None or secret is None:
        _run(program)
    guard = Guard(program)
    from hvd_imagenet.launcher.guard_link import Link  # only now: the rank starts meanwhile

    code = guard.watch(Link(address, bytes.fromhex(secret), launched_rank() or 0))
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
