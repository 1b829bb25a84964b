"""Case 21: after a kill the job goes on from its last checkpoint, on fewer processes or more, to the same result."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from jobs import Job, losses, start

ITERATIONS = 16
INTERVAL = 2
# While the checkpoint of iteration 6 is being written.
FAULTS = "slow-write@0:6 kill@{rank}:7"
KILLED_AT = 7
# Beyond the time of a start: the end of the first one, and noise.
RESTART_MARGIN_S = 10
# In float64 the order of summation stays invisible: in float32 it is amplified a thousandfold within these iterations.
TRAIN = ["--dtype", "float64", "--max-iterations", str(ITERATIONS), "--checkpoint-interval", str(INTERVAL)]


def discovery(folder: Path, *, first: int, later: int) -> str:
    """A script that finds other slots from its second call on."""
    path, called = folder / "discover", folder / "called"
    path.write_text(f"#!/bin/sh\nif [ -e {called} ]; then echo localhost:{later}; else echo localhost:{first}; fi\n")
    path.write_text(path.read_text() + f"touch {called}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def undisturbed_losses(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = start("", few_digits, folder, launch=["-np", "2"], train=TRAIN, timeout_s=120)
    assert done.code == 0, done.all_output
    return losses(folder / "run")


@pytest.mark.parametrize(
    ("launcher", "first", "later"),
    [
        ("mpirun", 3, 2),
        pytest.param("horovodrun", 3, 2, marks=pytest.mark.long),
        pytest.param("mpirun", 2, 3, marks=pytest.mark.long),
    ],
)
def test_21_restart_on_another_number_of_processes(
    few_digits: Path,
    tmp_path: Path,
    undisturbed_losses: np.ndarray,
    record_property: Callable[[str, object], None],
    launcher: str,
    first: int,
    later: int,
) -> None:
    launch = ["--max-restarts", "2", "--min-np", "2", "--discover", discovery(tmp_path, first=first, later=later)]
    done = start(
        FAULTS.format(rank=first - 1), few_digits, tmp_path,
        launch=[*launch, "--launcher", launcher], train=TRAIN, timeout_s=200,
    )  # fmt: skip
    assert done.code == 0, done.all_output
    assert "launch: exit code 137 after " in done.errors, done.all_output
    assert f"restart 1 of 2, on {later} processes" in done.errors
    assert re.findall(r"on (\d) processes \(cpu\)", done.output) == [str(first), str(later)]

    found = losses(tmp_path / "run")
    assert len(found) == ITERATIONS
    np.testing.assert_allclose(found, undisturbed_losses, rtol=1e-8)

    figures = times(done)
    for name, value in figures.items():
        record_property(name, round(value, 2))
    print(launcher, figures)
    assert figures["iterations_repeated"] <= INTERVAL
    assert figures["fault_to_next_iteration_s"] < figures["start_to_first_iteration_s"] + RESTART_MARGIN_S


def times(done: Job) -> dict[str, float]:
    """How long a start and a restart took, and how many iterations were made twice."""
    first, second = done.iterations(restarts=0), done.iterations(restarts=1)
    return {
        "start_to_first_iteration_s": first[0][1] - done.started_s,
        "fault_to_next_iteration_s": second[0][1] - done.fault_s,
        "iterations_repeated": KILLED_AT - second[0][0],
    }
