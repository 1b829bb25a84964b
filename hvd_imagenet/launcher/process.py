"""Runs a launcher: passes signals on, keeps the exit code, leaves out the notice that repeats what a rank has said."""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Protocol

from hvd_imagenet.errors import Preempted
from hvd_imagenet.launcher.notices import split_notice

_PR_SET_PDEATHSIG = 1
_LAST_WORDS_S = 1.0
_FORWARDED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# With these a batch system asks for the end, and gives time for a checkpoint.
_POLITE_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Watcher(Protocol):
    """Who knows the ranks of a job."""

    def watch_launcher(self, launcher: "subprocess.Popen[bytes]") -> None:
        """Is told which process has been started."""

    def signal_ranks(self, number: int) -> bool:
        """Sends a signal to all ranks; returns whether there are any."""

    def end(self) -> None:
        """Ends all ranks."""


def _end_with_parent() -> None:
    """Has the kernel end mpirun, and so its processes, when `launch` is killed outright."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _forward_to(
    child: "subprocess.Popen[bytes]", received: list[int], watcher: Watcher | None
) -> Callable[[int, FrameType | None], None]:
    """A signal handler that ends the job and remembers why; the first polite one leaves the end to the ranks."""
    asked: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if number in _POLITE_SIGNALS and not asked and watcher is not None and watcher.signal_ranks(number):
            asked.append(number)
            return
        if watcher is not None:
            watcher.end()
        received.append(signal.SIGTERM if number in _POLITE_SIGNALS else number)
        child.send_signal(signal.SIGTERM)

    return forward


@contextlib.contextmanager
def leaving_when_told(say: Callable[[str], None]) -> Iterator[None]:
    """Ends `launch` at SIGTERM or SIGUSR1 while no job runs, which would save itself; what was saved is as it was.

    Args:
        say: shows a line to the user.

    Raises:
        Preempted: a signal has come.

    Example:
        >>> with leaving_when_told(print):
        ...     signal.raise_signal(signal.SIGUSR1)
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.Preempted: SIGUSR1
    """

    def leave(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        say(f"launch: {name} while no process runs; exit code {Preempted.exit_code}")
        raise Preempted(name)

    previous = {number: signal.signal(number, leave) for number in _POLITE_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_job(command: Sequence[str], environment: Mapping[str, str], watcher: Watcher | None = None) -> int:
    """Runs mpirun or horovodrun to its end.

    Args:
        command: the launcher with its arguments.
        environment: its variables, which its processes inherit.
        watcher: passes the first SIGTERM or SIGUSR1 to the ranks, which may then end the job themselves; without one,
            and at the second, the launcher is ended.

    Returns:
        The launcher's exit code; for mpirun that of the first process that failed, 0 if none did; 128 + the signal if
        one ended the launcher, 143 for SIGUSR1 too.

    Example:
        >>> run_job(["sh", "-c", "exit 3"], os.environ)
        3
    """
    # A session of its own keeps the terminal's Ctrl-C from mpirun, which would get it twice and give up its processes.
    with _session_folder(environment) as own:
        child = subprocess.Popen(
            command, env={**environment, **own}, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True, preexec_fn=_end_with_parent,
        )  # fmt: skip
        return _follow(child, watcher)


@contextlib.contextmanager
def _session_folder(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """A new folder for the session files of Open MPI 5, and the variable that names it, unless the user has set one.

    By default they lie in /tmp/ompi.PID. An mpirun that is killed leaves them there, and one that is given the same
    process id later, as in a container that is started again, then ends at once with exit code 213.
    """
    if any(f"PRTE_MCA_prte_{scope}tmpdir_base" in environment for scope in ("", "local_")):
        yield {}
    else:
        with tempfile.TemporaryDirectory(prefix="hvd_imagenet.", ignore_cleanup_errors=True) as folder:
            yield {"PRTE_MCA_prte_local_tmpdir_base": folder}


def _follow(child: "subprocess.Popen[bytes]", watcher: Watcher | None) -> int:
    """Passes signals and standard error on until the launcher ends; returns the exit code of `run_job`."""
    received: list[int] = []
    if watcher is not None:
        watcher.watch_launcher(child)
    forward = _forward_to(child, received, watcher)
    previous = {number: signal.signal(number, forward) for number in _FORWARDED_SIGNALS}
    try:
        _show_errors(child)
        code = child.wait()
        if code != 0:
            _end_session(child.pid)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        return 128 + received[0]
    return code if code >= 0 else 128 - code


def _show_errors(child: "subprocess.Popen[bytes]") -> None:
    """Copies the job's standard error to ours as it comes, without the notice."""
    assert child.stderr is not None
    errors, ended = child.stderr.fileno(), os.pidfd_open(child.pid)
    waiting, pause_s = b"", None
    try:
        while ready := select.select([errors] if pause_s is not None else [errors, ended], [], [], pause_s)[0]:
            if ended in ready:
                pause_s = _LAST_WORDS_S  # what it has left behind may hold its standard error for ever
            # A read from the descriptor returns what is there: a progress bar's line need not end to be seen.
            elif chunk := os.read(errors, 65536):
                shown, waiting = split_notice(waiting + chunk)
                _write(shown)
            else:
                break
    finally:
        os.close(ended)
    _write(waiting)


def _end_session(leader: int) -> None:
    """Ends what a failed launcher has left of its session: an ssh to a host that is gone, for example."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            if int(stat.read_text().rpartition(")")[2].split()[3]) == leader:
                os.kill(int(stat.parent.name), signal.SIGKILL)


def _write(text: bytes) -> None:
    """Writes to standard error at once."""
    sys.stderr.flush()
    while text:
        text = text[os.write(2, text) :]
