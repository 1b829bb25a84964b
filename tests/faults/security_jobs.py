"""Jobs that wait to be looked at: their sockets, their command lines, and what a stranger can do to them."""

import base64
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LAUNCHER_VARIABLES = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "HOROVOD_", "SLURM_", "OMP_", "HVD_IMAGENET_")
RANKS = 2
TIMEOUT_S = 90
LAUNCHERS = {
    "launch": [sys.executable, "-m", "hvd_imagenet", "launch", "-np", str(RANKS)],
    "launch-gloo": [sys.executable, "-m", "hvd_imagenet", "launch", "-np", str(RANKS), "--launcher", "horovodrun"],
    "horovodrun-mpi": [str(BIN / "horovodrun"), "-np", str(RANKS), "--mpi", "--verbose"],
    "horovodrun-gloo": [str(BIN / "horovodrun"), "-np", str(RANKS), "--gloo", "--verbose"],
}
# Joins, says so by a file, and stays in the job until the file `go` is there.
RANK = """\
import os, pathlib, sys, time
import torch
import horovod.torch as hvd

folder = pathlib.Path(sys.argv[1])
hvd.init()
assert hvd.allreduce(torch.ones(1), op=hvd.Sum).item() == hvd.size()
(folder / f"rank{hvd.rank()}").write_text(os.environ.get("WANDB_API_KEY", "nothing"))
while hvd.allreduce(torch.tensor([float((folder / "go").exists())]), op=hvd.Sum).item() == 0:
    time.sleep(0.1)
print("rank", hvd.rank(), "of", hvd.size(), "is done", flush=True)
"""


class Job:
    """A job that runs."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.output: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.output.extend(self.process.stdout)

    def said(self) -> str:
        """All that it has printed so far."""
        return "".join(self.output)

    def processes(self) -> list[psutil.Process]:
        """The launcher and all that came of it."""
        launcher = psutil.Process(self.process.pid)
        return [launcher, *launcher.children(recursive=True)]

    def wait_for(self, *names: str) -> None:
        """Waits for files in the job's folder."""
        end = time.monotonic() + TIMEOUT_S
        while not all((self.folder / name).exists() for name in names):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, f"{names} not there after {TIMEOUT_S} s: {self.said()}"
            time.sleep(0.05)

    def finish(self) -> None:
        """Lets it go on to its end, which must be a good one on all ranks."""
        (self.folder / "go").touch()
        assert self.process.wait(TIMEOUT_S) == 0, self.said()
        self.reader.join(TIMEOUT_S)
        for rank in range(RANKS):
            assert f"rank {rank} of {RANKS} is done" in self.said(), self.said()


def environment(**variables: str) -> dict[str, str]:
    """The variables of a user's shell, even where these tests run in a job themselves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER_VARIABLES)}
    return {**kept, "OMP_NUM_THREADS": "1", **variables}


@contextmanager
def start(command: list[str], folder: Path, **variables: str) -> Iterator[Job]:
    """Starts a command; nothing of it is left behind."""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(**variables), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        job = Job(process, folder)
        try:
            yield job
        finally:
            left = job.processes() if process.poll() is None else []
            for one in left:
                one.kill()
            psutil.wait_procs(left, timeout=10)
            process.wait()
            job.reader.join(10)


@contextmanager
def waiting_job(launcher: list[str], folder: Path, **variables: str) -> Iterator[Job]:
    """A job all of whose ranks have joined."""
    script = folder / "rank.py"
    script.write_text(RANK)
    separator = ["--"] if "launch" in launcher else []
    with start([*launcher, *separator, sys.executable, str(script), str(folder)], folder, **variables) as job:
        job.wait_for(*(f"rank{rank}" for rank in range(RANKS)))
        yield job


def listening(process: psutil.Process) -> list[tuple[str, int]]:
    """The addresses and ports that a process accepts connections or datagrams at."""
    found = process.net_connections(kind="inet")
    return [(one.laddr.ip, one.laddr.port) for one in found if one.status == psutil.CONN_LISTEN or not one.raddr]


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def malicious_pickle(path: Path) -> bytes:
    """A pickle that makes a file where it is loaded."""
    return pickle.dumps(_Touch(path))


def malicious_value(path: Path) -> bytes:
    """The same as Horovod's key-value stores hold objects."""
    return base64.b64encode(malicious_pickle(path))
