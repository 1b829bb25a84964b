"""Jobs on the three hosts, and what is read of them."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from network import Cluster, Host
from ranks import end_tree, program, run, user_environment
from secret_watch import variables_of
from training import distance, losses, tensors

__all__ = ["losses"]

BIN = Path(sys.executable).parent
# 24 of 92 images an iteration, by 12 virtual workers, which 2 and 6 processes share evenly.
RECIPE = ["--recipe", "digits", "--model", "resnet8", "--image-size", "16", "--validation-resize", "16"]
RECIPE += ["--minibatch", "24", "--per-worker", "2", "--reference-lr", "0.05", "--reference-minibatch", "16"]
RECIPE += ["--warmup", "none", "--seed", "7", "--threads", "1"]
# Joins, says so by a file, and stays in the job until the file `go` is there.
RANK = """\
import pathlib, sys, time
import torch
import horovod.torch as hvd

folder = pathlib.Path(sys.argv[1])
hvd.init()
hvd.allreduce(torch.ones(1), name="joined")
(folder / f"rank{hvd.rank()}").touch()
while hvd.allreduce(torch.tensor([float((folder / "go").exists())]), op=hvd.Sum).item() == 0:
    time.sleep(0.1)
"""
OF_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
VARIABLES = {**OF_ROOT, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "TF_NUM_INTEROP_THREADS": "1"}


def train_words(data: Path, out: Path, *words: str) -> list[str]:
    """Options of `train`."""
    return [*RECIPE, "--data", str(data), "--out", str(out), *words]


def on_first_host(cluster: Cluster, words: list[str], *, timeout_s: float = 240, **variables: str) -> Any:
    """Runs a command on node1 to its end, which must be a success; its output is not of interest otherwise."""
    done: subprocess.CompletedProcess[str] = run(
        cluster.hosts[0].command(words), timeout_s=timeout_s, **{**VARIABLES, **variables}
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def waiting(folder: Path) -> str:
    """A script that notes the value of WANDB_API_KEY under its host's name, and waits for the file `go`."""
    return f"""\
import os, pathlib, time
folder = pathlib.Path({str(folder)!r})
(folder / os.uname().nodename).write_text(os.environ.get("WANDB_API_KEY", "nothing"))
while not (folder / "go").exists():
    time.sleep(0.1)
"""


def told_of_key(processes: Iterable[psutil.Process]) -> list[str]:
    """The names of those that have WANDB_API_KEY in their environment, but for `launch`, which has the user's."""
    told = []
    for process in processes:
        with suppress(psutil.Error):  # it has ended
            if "WANDB_API_KEY" in variables_of(process) and "launch" not in process.cmdline():
                told.append(process.name())
    return told


class Job:
    """A job that runs.

    Args:
        process: on the first host.
        folder: holds what it prints.
    """

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self.process, self._folder = process, folder
        self.began_s = time.monotonic()

    def said(self) -> str:
        """What it has printed so far."""
        return "".join((self._folder / name).read_text() for name in ("output", "errors"))

    def wait_for(self, is_so: Callable[[], Any], what: str, within_s: float) -> float:
        """Waits until something is so while the job runs, and returns when that was."""
        give_up_at_s = time.monotonic() + within_s
        while not is_so():
            assert time.monotonic() < give_up_at_s, f"{what}: not within {within_s} s; the job says:\n{self.said()}"
            assert self.process.poll() is None, f"{what}: not so before the job has ended; it says:\n{self.said()}"
            time.sleep(0.1)
        return time.monotonic()

    def finish(self, within_s: float) -> None:
        """Waits for its end, which must be a success."""
        assert self.process.wait(timeout=within_s) == 0, self.said()


@contextmanager
def started(cluster: Cluster, words: list[str], folder: Path, **variables: str) -> Iterator[Job]:
    """Starts a command on node1; what it prints goes into a folder."""
    with (folder / "output").open("w") as output, (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            cluster.hosts[0].command(words), env=user_environment(**{**VARIABLES, **variables}),
            stdin=subprocess.DEVNULL, stdout=output, stderr=errors, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield Job(process, folder)
        finally:
            if process.poll() is None:
                end_tree(process.pid)


class Socket(NamedTuple):
    """Something that listens.

    Args:
        who: the name of its process; `rank` for a process whose program is called rank.py.
        address: 0.0.0.0 or :: for all.
        port: of it.
    """

    who: str
    address: str
    port: int


def listening(host: Host) -> set[Socket]:
    """What listens on a host, but for its sshd."""
    words = ["nsenter", f"--target={host.pid}", "--net", "--", "ss", "-H", "-ltnp"]
    found = set()
    for line in subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        address = address.strip("[]").split("%")[0]
        for name, pid in re.findall(r'\("([^"]+)",pid=(\d+)', line):
            who = "rank" if "rank.py" in " ".join(psutil.Process(int(pid)).cmdline()[:2]) else name
            found.add(Socket(who, "0.0.0.0" if address == "*" else address, int(port)))
    return {each for each in found if each.who != "sshd"}


def on_one_host(data: Path, out: Path, *words: str) -> Path:
    """The same run as a job of 2 processes on this machine, without any of the hosts."""
    command = [*program("launch", "-np", "2", "--", "train"), *train_words(data, out, *words)]
    done = run(command, timeout_s=240, **VARIABLES)
    assert done.returncode == 0, done.stderr
    return out


def is_the_same_run(out: Path, expected: Path, *, iterations: int, tolerance: float) -> None:
    """Losses of every iteration, and for float64's tolerance the weights after the last."""
    found, reference = losses(out), losses(expected)[:iterations]
    assert len(found) == len(reference) == iterations
    np.testing.assert_allclose(found, reference, rtol=tolerance)
    if tolerance < 1e-6 and len(losses(expected)) == iterations:
        assert distance(tensors(out), tensors(expected)) <= tolerance
