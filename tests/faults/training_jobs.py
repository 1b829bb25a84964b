"""Small jobs of `train` to which something happens, and what is read of them."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ranks import program, run
from training import distance, losses, rows, tensors

__all__ = ["distance", "losses", "rows", "run", "tensors"]

INJECTOR = str(Path(__file__).with_name("injector.py"))
BIN = Path(sys.executable).parent
# 24 of 92 images an iteration: epochs end after iterations 3, 7 and 11.
RECIPE = ["--recipe", "digits", "--model", "resnet8", "--image-size", "16", "--validation-resize", "16"]
RECIPE += ["--minibatch", "24", "--per-worker", "2", "--epochs", "3", "--reference-lr", "0.05"]
RECIPE += ["--reference-minibatch", "16", "--warmup-epochs", "1", "--seed", "7", "--threads", "1"]
LAST = 12
SECRET = "hunter2-0123456789abcdef"
ROOT_MAY_RUN = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def plan(*faults: str, **more: Any) -> list[str]:
    """Words that start `hvd_imagenet` with faults and logs; see injector.py."""
    return [sys.executable, INJECTOR, json.dumps({"faults": faults, **more}, default=str)]


def train(
    processes: int, data: Path, out: Path, *words: str, injected: list[str] | None = None, launcher: str = "mpirun",
    launch: Sequence[str] = (), timeout_s: float = 100, **variables: str,
) -> Any:  # fmt: skip
    """A job of `train` to its end, with its exit code, output and errors."""
    program_words = [*(injected or plan()), "train", *RECIPE, "--data", str(data), "--out", str(out), *words]
    started = [*program("launch", "-np", str(processes), "--launcher", launcher, *launch, "--"), *program_words]
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    of_test = {"PATH": path, **ROOT_MAY_RUN, "TF_NUM_INTEROP_THREADS": "1", "HOROVOD_CYCLE_TIME": "2"}
    return run(started, timeout_s=timeout_s, **{**of_test, **variables})


def at_once(*jobs: Callable[[], Any]) -> list[Any]:
    """What jobs come to that run beside each other: much of each is importing, and waiting for the disk."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [begun.result() for begun in [pool.submit(job) for job in jobs]]


def newest(out: Path) -> int:
    """The iteration of the newest checkpoint."""
    from hvd_imagenet import checkpoint

    path = checkpoint.latest(out)
    assert path is not None
    return int(checkpoint.read_manifest(path)["iteration"])


def is_one_error(done: Any, *parts: str) -> None:
    """Exit code 2 and one line of ours, whatever else a launcher says."""
    own = [line for line in done.stderr.splitlines() if "error: " in line]
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(own) == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for part in parts:
        assert part in own[0]


def images_taken(*lives: Path) -> list[list[tuple[int, int]]]:
    """Epoch and number of the images of each iteration, over all ranks.

    Args:
        lives: the folders of a job's logs, one for each time that it was started. What a later one repeats counts, as
            in iterations.csv.
    """
    of_iterations: dict[int, list[tuple[int, int]]] = {}
    for life in lives:
        of_life: dict[int, list[tuple[int, int]]] = {}
        for log in life.glob("rank-*.jsonl"):
            for line in log.read_text().splitlines():
                iteration, epochs, images = json.loads(line)
                of_life.setdefault(iteration, []).extend(zip(epochs, images, strict=True))
        of_iterations |= of_life
    return [of_iterations[iteration] for iteration in range(max(of_iterations) + 1)]


def no_image_is_skipped_or_repeated(taken: list[list[tuple[int, int]]], images: int, minibatch: int) -> None:
    """Every iteration takes a whole minibatch, every whole epoch each image once."""
    assert [len(of_iteration) for of_iteration in taken] == [minibatch] * len(taken)
    counts = Counter(image for of_iteration in taken for image in of_iteration)
    assert set(counts.values()) == {1}
    for epoch in range(len(taken) * minibatch // images):
        np.testing.assert_array_equal(sorted(image for of, image in counts if of == epoch), np.arange(images))
