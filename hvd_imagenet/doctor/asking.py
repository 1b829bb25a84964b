"""Asks hosts for their reports, all at once, over ssh."""

import contextlib
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from hvd_imagenet import __version__
from hvd_imagenet.doctor.report import MARK, Report
from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.hosts import Host
from hvd_imagenet.launcher.probe import is_this_host, last_line, ssh_command, why_ssh_failed

# Starting two frameworks from a cold file system and listing ImageNet there for the first time take most of it.
REPORT_TIMEOUT_S = 120.0
_MOST_AT_ONCE = 32
_CLOCK_QUESTIONS = 5
_LAST_WORDS_S = 5.0


class Answer(NamedTuple):
    """What a host has answered.

    Args:
        report: what it says of itself.
        clock_ahead_s: how far its clock is ahead of that of the host that asks.
        clock_error_s: by how much that may be wrong: half of the time that the answer took.
    """

    report: Report
    clock_ahead_s: float
    clock_error_s: float


def ask(host: str, data: Path | None, timeout_s: float = REPORT_TIMEOUT_S) -> Answer | str:
    """Asks a host for its report.

    Args:
        host: its name.
        data: the folder of images to look for there; None for none.
        timeout_s: after which it is given up.

    Returns:
        Its answer, or why there is none and what to do about it.

    Raises:
        UserError: there is no ssh here.
    """
    words = [sys.executable, "-m", "hvd_imagenet.doctor.report", *([str(data)] if data is not None else [])]
    here = is_this_host(host)
    command = words if here else ssh_command(host, words)
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        except FileNotFoundError as error:
            raise UserError("ssh is not on PATH; get it with: apt install openssh-client") from error
        late = threading.Event()
        timer = threading.Timer(timeout_s, _give_up, (process, late))
        timer.start()
        try:
            answer = _converse(process)
        finally:
            timer.cancel()
            code = _end(process)
        if answer is not None:
            return answer
        if late.is_set():
            return f"no report after {timeout_s:g} s; is it overloaded, or does a file system there not answer?"
        errors.seek(0)
        said = errors.read().decode(errors="replace")
        if here:
            return f"its report fails ({last_line(said, code)}); see all of it: {shlex.join(words)}"
        return why_ssh_failed(host, said, code)


def _give_up(process: "subprocess.Popen[bytes]", late: threading.Event) -> None:
    late.set()
    process.kill()


def _end(process: "subprocess.Popen[bytes]") -> int:
    """Lets go of the host, where the end of its standard input ends the report's program too."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    try:
        return process.wait(_LAST_WORDS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _converse(process: "subprocess.Popen[bytes]") -> Answer | str | None:
    """Reads the report and then the clock; None where the other side ends before."""
    assert process.stdin is not None
    assert process.stdout is not None
    line = next((line for line in process.stdout if line.startswith(MARK.encode())), None)
    if line is None:
        return None
    try:
        report = Report.from_json(line.decode().removeprefix(MARK))
    except ValueError:
        return f"its report is not that of hvd_imagenet {__version__}, which this host has; install the same"
    best: tuple[float, float] | None = None
    for _ in range(_CLOCK_QUESTIONS):
        asked_s = time.time()
        try:
            process.stdin.write(b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return None
        line = process.stdout.readline()
        answered_s = time.time()
        if not line:
            return None
        error_s = (answered_s - asked_s) / 2
        if best is None or error_s < best[0]:
            best = error_s, float(line) - asked_s - error_s
    assert best is not None
    return Answer(report, clock_ahead_s=best[1], clock_error_s=best[0])


def ask_all(hosts: Sequence[Host], data: Path | None) -> dict[str, Answer | str]:
    """Asks all hosts at once.

    Args:
        hosts: to ask.
        data: the folder of images to look for on each; None for none.

    Returns:
        By name, what each has answered, or why there is no answer.

    Raises:
        UserError: there is no ssh here.
    """
    with ThreadPoolExecutor(_MOST_AT_ONCE) as threads:
        answers = threads.map(lambda host: ask(host.name, data), hosts)
        return {host.name: answer for host, answer in zip(hosts, answers, strict=True)}
