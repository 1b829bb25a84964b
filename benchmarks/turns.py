"""Jobs that take turns, so that what else the machine does meets all of them.

A contestant's processes call `serve`, which connects them to the benchmark: a turn is a request to all of them, and
their answers. They are stopped (SIGSTOP) while it is not their turn: Horovod's thread looks for work as long as it
lives. So starting and warming up are paid for once, and a turn can be short.
"""

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TextIO

from tqdm import tqdm

START_S, TURN_S, END_S = 300, 900, 60
# Answers of all processes of a job, by rank.
Answers = list[Any]
Round = dict[str, Answers]


@dataclass(frozen=True)
class Contestant:
    """How a job is started.

    Args:
        commands: one, of a launcher; or one a process, where nothing connects them. Each gets a last word, turns=PATH.
        processes: how many of them will call `serve`.
        environment: variables beside those of this process.
    """

    commands: Sequence[Sequence[str]]
    processes: int
    environment: Mapping[str, str] = field(default_factory=dict)


def serve(path: str, rank: int, answer: Callable[[Any], Any]) -> None:
    """In a process of a job: answers requests until there are no more; path: the value of the last word."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        with connection.makefile("rw") as file:
            print(json.dumps({"rank": rank, "pid": os.getpid()}), file=file, flush=True)
            for line in file:
                print(json.dumps(answer(json.loads(line))), file=file, flush=True)


class Job:
    """The processes of a contestant; stopped, but for its turns."""

    def __init__(self, contestant: Contestant) -> None:
        self._contestant = contestant
        self._folder = tempfile.TemporaryDirectory(prefix="turns-")
        self._output = Path(self._folder.name) / "output"
        self._files: list[TextIO] = []
        self._pids: list[int] = []
        path = f"{self._folder.name}/socket"
        with socket.socket(socket.AF_UNIX) as listener, self._output.open("w") as output:
            listener.bind(path)
            listener.listen(contestant.processes)
            self._launchers = [
                subprocess.Popen(
                    [*command, f"turns={path}"], env={**os.environ, **contestant.environment}, stdin=subprocess.DEVNULL,
                    stdout=output, stderr=output, start_new_session=True,
                )
                for command in contestant.commands
            ]  # fmt: skip
            try:
                self._connect(listener)
            except BaseException:
                self.kill()
                raise

    def _connect(self, listener: socket.socket) -> None:
        """Waits until every process is ready."""
        listener.settimeout(0.5)
        found, give_up_s = {}, time.monotonic() + START_S
        while len(found) < self._contestant.processes:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if time.monotonic() > give_up_s or any(each.poll() is not None for each in self._launchers):
                    raise self._failure() from None
                continue
            connection.settimeout(TURN_S)
            file = connection.makefile("rw")
            connection.close()  # when the file is
            hello = json.loads(file.readline())
            found[hello["rank"]] = (hello["pid"], file)
        self._pids = [found[rank][0] for rank in sorted(found)]
        self._files = [found[rank][1] for rank in sorted(found)]

    def turn(self, request: Any) -> Answers:
        """The answers of all processes, which run until the last of them has answered."""
        self._signal(signal.SIGCONT)
        for file in self._files:
            print(json.dumps(request), file=file, flush=True)
        answers = []
        for file in self._files:
            line = file.readline()
            if not line:
                raise self._failure()
            answers.append(json.loads(line))
        self._signal(signal.SIGSTOP)
        return answers

    def end(self) -> None:
        """No more requests: the processes end by themselves."""
        self._signal(signal.SIGCONT)
        for file in self._files:
            file.close()
        for launcher in self._launchers:
            try:
                launcher.wait(END_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._folder.cleanup()

    def kill(self) -> None:
        """After a failure."""
        self._signal(signal.SIGKILL)
        for launcher in self._launchers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(launcher.pid, signal.SIGTERM)
            try:
                launcher.wait(10)
            except subprocess.TimeoutExpired:
                launcher.kill()
                launcher.wait()

    def _signal(self, number: int) -> None:
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _failure(self) -> RuntimeError:
        """With what the job has printed; it may not have done so yet when its connection ends."""
        for launcher in self._launchers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                launcher.wait(2)
        commands = "\n".join(" ".join(command) for command in self._contestant.commands)
        return RuntimeError(f"{commands}\n{self._output.read_text()}")


@contextlib.contextmanager
def started(contestants: Mapping[str, Contestant], first: Any) -> Iterator[dict[str, Job]]:
    """Jobs by name, each after a first request that warms it up; all are ended, or killed after a failure."""
    jobs: dict[str, Job] = {}
    # Nobody else would continue those that are stopped.
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for name, contestant in contestants.items():
            jobs[name] = Job(contestant)
            jobs[name].turn(first)
        yield jobs
    except BaseException:
        for job in jobs.values():
            job.kill()
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for job in jobs.values():
        job.end()


def _leave(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def take_turns(
    label: str, contestants: Mapping[str, Contestant], request: Any, first: Any, rounds: int, starts: int = 1
) -> list[Round]:
    """What all answered in every round; a round's order is the reverse of the one's before, so neighbours stay so.

    Args:
        label: for the progress bar, or for the lines where there is no terminal.
        contestants: by name; those that are compared stand beside each other.
        request: of each turn.
        first: the request after each start, which is not measured.
        rounds: in all.
        starts: how often the jobs are started anew, since a process may have luck with its memory.
    """
    taken: list[Round] = []
    ends = [rounds * (number + 1) // starts for number in range(starts)]
    with tqdm(total=rounds * len(contestants), desc=label, disable=not sys.stderr.isatty()) as bar:
        for end in ends:
            with started(contestants, first) as jobs:
                while len(taken) < end:
                    answers = {}
                    for name in list(jobs)[:: -1 if len(taken) % 2 else 1]:
                        answers[name] = jobs[name].turn(request)
                        bar.update()
                    taken.append(answers)
                    if bar.disable:
                        print(f"{label}: round {len(taken)} of {rounds}", flush=True)
    return taken


def spread(values: Sequence[float], digits: int = 4) -> dict[str, Any]:
    """The median, and the quartiles."""
    if len(values) < 2:
        return {"median": round(values[0], digits), "quartiles": [round(values[0], digits)] * 2}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(median, digits), "quartiles": [round(low, digits), round(high, digits)]}


def compared(rounds: Sequence[Mapping[str, float]], peers: Sequence[str], ours: str) -> list[float]:
    """The best of peers over ours in each round: higher is better for us."""
    return [min(taken[peer] for peer in peers) / taken[ours] for taken in rounds]
