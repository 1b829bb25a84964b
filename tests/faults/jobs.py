"""Jobs into which a fault is injected, and when what happened."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranks import program, run
from training import losses
from training_jobs import plan

__all__ = ["RECIPE", "Job", "losses", "start"]

# 24 of 92 images an iteration; a virtual worker has 2 of them, so that 4, 3, 2 and 1 processes can run it.
RECIPE = ["--recipe", "digits", "--model", "resnet8", "--image-size", "16", "--validation-resize", "16"]
RECIPE += ["--minibatch", "24", "--per-worker", "2", "--reference-lr", "0.05", "--reference-minibatch", "16"]
RECIPE += ["--warmup", "none", "--seed", "7", "--threads", "1"]


@dataclass
class Job:
    """A job that has ended.

    Args:
        code: its exit code.
        output: of `launch` and all ranks.
        errors: likewise.
        started_s: when `launch` was started, in seconds of the epoch.
        ended_s: when it had ended.
        log: what the injector has written.
    """

    code: int
    output: str
    errors: str
    started_s: float
    ended_s: float
    log: list[dict[str, Any]]

    @property
    def fault_s(self) -> float:
        """When the fault was injected."""
        return next(float(line["time_s"]) for line in self.log if line["action"].startswith("fault"))

    @property
    def fault_to_end_s(self) -> float:
        """From the fault to the end of `launch`."""
        return self.ended_s - self.fault_s

    def iterations(self, restarts: int) -> list[tuple[int, float]]:
        """The iterations that rank 0 has begun in one start of the job, and when."""
        return [
            (line["iteration"], line["time_s"])
            for line in self.log
            if line["restarts"] == restarts and line["rank"] == 0 and line["action"].startswith("computing")
        ]

    @property
    def all_output(self) -> str:
        """For messages."""
        return f"exit code {self.code}\n{self.output}\n{self.errors}"


def start(
    fault: str, data: Path, folder: Path, *, launch: list[str], train: list[str], timeout_s: float,
    **variables: str,
) -> Job:  # fmt: skip
    """Runs `launch … train …` to its end.

    Args:
        fault: for the injector, WHAT@RANK:ITERATION, perhaps several; empty for none.
        data: of the run.
        folder: new; gets the run folder `run` and the log.
        launch: options of `launch`.
        train: options of `train` beside RECIPE.
        timeout_s: hard limit, after which the test fails.
        variables: of the environment.
    """
    log = folder / "log.jsonl"
    words = [*plan(*fault.split(), log=log), "train", *RECIPE, *train]
    words += ["--data", str(data), "--out", str(folder / "run")]
    started_s = time.time()
    of_job = {"HOROVOD_CYCLE_TIME": "1", **variables}
    done: subprocess.CompletedProcess[str] = run(
        program("launch", *launch, "--", *words), timeout_s=timeout_s, **of_job
    )
    ended_s = time.time()
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return Job(done.returncode, done.stdout, done.stderr, started_s, ended_s, lines)
