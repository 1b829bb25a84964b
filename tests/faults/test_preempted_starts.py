"""A signal before the run heeds it: it is not lost, and ends nothing by itself."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from ranks import ROOT, end_tree, program, user_environment
from training_jobs import RECIPE

WITHIN_S = 60


def first_rank(launch: int) -> psutil.Process:
    """The first process that is to become a run: a guard's child, which has not imported anything yet."""
    give_up_at_s = time.monotonic() + WITHIN_S
    while time.monotonic() < give_up_at_s:
        for process in psutil.Process(launch).children(recursive=True):
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if words[1:4] == ["-m", "hvd_imagenet", "train"]:
                return process
        time.sleep(0.005)
    raise AssertionError("no rank has started")


@pytest.mark.long
def test_09_sigusr1_before_the_framework_is_there(few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = program("launch", "-np", "2", "--", "train", *RECIPE, "--data", str(few_digits), "--out", str(out))
    with subprocess.Popen(
        command, cwd=ROOT, env=user_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as job:  # fmt: skip
        try:
            first_rank(job.pid).send_signal(signal.SIGUSR1)
            output, errors = job.communicate(timeout=WITHIN_S)
        finally:
            if job.poll() is None:
                end_tree(job.pid)
    assert job.returncode == 143, output + errors
    assert "SIGUSR1: stopped after " in output
    assert "Traceback" not in output + errors
    assert not (out / "summary.json").exists()
