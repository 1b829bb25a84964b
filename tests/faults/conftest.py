"""Faults are injected into real jobs; every test must leave no process and no thread behind."""

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from training_jobs import SECRET, train

_PR_SET_CHILD_SUBREAPER = 36
_GONE_WITHIN_S = 10.0
_BEFORE = pytest.StashKey[tuple[set[psutil.Process], set[threading.Thread]]]()


@pytest.fixture(scope="session", autouse=True)
def orphans_come_to_us() -> None:
    """What a job leaves behind becomes a child of this process, and so is seen."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Notes what runs before a fixture of any scope is made: what that leaves behind is seen too."""
    item.stash[_BEFORE] = set(psutil.Process().children(recursive=True)), set(threading.enumerate())


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest, orphans_come_to_us: None) -> Iterator[None]:
    """Fails a test after which a process or thread of it or of its fixtures still runs."""
    yield
    processes, threads = request.node.stash[_BEFORE]
    deadline_s = time.monotonic() + _GONE_WITHIN_S
    while left := _alive(processes) + [each for each in threading.enumerate() if each not in threads]:
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.1)
    names = [f"{each.pid} {each.cmdline()}" if isinstance(each, psutil.Process) else each.name for each in left]
    for each in left:
        if isinstance(each, psutil.Process):
            each.kill()
    assert not left, f"left behind: {names}"


def _alive(before: set[psutil.Process]) -> list[psutil.Process | threading.Thread]:
    """Descendants that were not there before and still run; orphans that have ended are reaped."""
    alive: list[psutil.Process | threading.Thread] = []
    for process in set(psutil.Process().children(recursive=True)) - before:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
            elif process.ppid() == os.getpid():
                os.waitpid(process.pid, os.WNOHANG)
        except (psutil.NoSuchProcess, ChildProcessError):
            continue
    return alive


@pytest.fixture(scope="session")
def undisturbed(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of training_jobs.train to which nothing happens, with checkpoints after iterations 4, 8 and 12.

    Its processes have a secret of its user's in their environment. What the job has said is in the file beside the run.
    """
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    done = train(2, few_digits, out, launch=["--env", "WANDB_API_KEY"], WANDB_API_KEY=SECRET)
    assert done.returncode == 0, done.stderr
    (out.parent / "said").write_text(done.stdout + done.stderr)
    return out
