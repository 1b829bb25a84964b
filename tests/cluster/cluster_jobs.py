"""Jobs of `train` on the three hosts, and what is read of them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from network import Cluster
from ranks import program, run
from training import distance, losses, tensors

__all__ = ["losses"]

BIN = Path(sys.executable).parent
# 24 of 92 images an iteration, by 12 virtual workers, which 2 and 6 processes share evenly.
RECIPE = ["--recipe", "digits", "--model", "resnet8", "--image-size", "16", "--validation-resize", "16"]
RECIPE += ["--minibatch", "24", "--per-worker", "2", "--reference-lr", "0.05", "--reference-minibatch", "16"]
RECIPE += ["--warmup", "none", "--seed", "7", "--threads", "1"]
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
