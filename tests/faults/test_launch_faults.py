"""Cases 1 to 6: a rank that raises, is killed, stands still or is slow, and what `launch` does about it."""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from jobs import Job, start
from training_jobs import at_once

HOST = os.uname().nodename
ENDS_WITHIN_S = {"raise": 10, "kill": 60}
STALL_TIMEOUT_S = 8
# The first step of Keras is compiled, which takes longer where another job runs beside it.
STALL_TIMEOUT_OF_KERAS_S = 14
# Beyond --stall-timeout: the reports of a second, and ending the ranks.
STALL_MARGIN_S = 8
MPI, GLOO = "mpirun", "horovodrun"
long = pytest.mark.long


@pytest.fixture
def job(few_digits: Path, tmp_path: Path, record_property: Callable[[str, object], None]) -> Callable[..., Job]:
    def run(
        fault: str, processes: int, launcher: str = MPI, *, framework: str = "torch", launch: str = "", epochs: int = 4
    ) -> Job:
        folder = tmp_path / f"{fault}-{launcher}-{framework}"
        folder.mkdir()
        done = start(
            fault, few_digits, folder,
            launch=["-np", str(processes), "--launcher", launcher, *launch.split()],
            train=["--framework", framework, "--epochs", str(epochs)],
            timeout_s=120,
        )  # fmt: skip
        record_property(f"fault_to_end_s {folder.name}", round(done.fault_to_end_s, 2))
        print(f"{fault} at {processes} processes, {launcher}, {framework}: ended {done.fault_to_end_s:.1f} s later")
        return done

    return run


@pytest.mark.parametrize(
    ("launcher", "framework"),
    [(MPI, "torch"), pytest.param(GLOO, "torch", marks=long), pytest.param(MPI, "keras", marks=long)],
)
def test_01_raise_mid_step(job: Callable[..., Job], launcher: str, framework: str) -> None:
    done = job("raise@1:6", 4, launcher, framework=framework)
    assert done.code == 1, done.all_output
    said = done.output + done.errors
    # TensorFlow's error quotes that of the function within the compiled step, with an empty line in its traceback.
    assert len(re.findall(r"Traceback \(most recent call last\):\n.*  File", said)) == 1, done.all_output
    assert said.count("RuntimeError: injected fault") == (2 if framework == "keras" else 1)
    assert said.count(f"rank 1 of 4 on {HOST}:") == 1
    assert done.fault_to_end_s < ENDS_WITHIN_S["raise"]


@pytest.mark.parametrize(
    ("launcher", "framework"),
    [(MPI, "torch"), pytest.param(GLOO, "torch", marks=long), pytest.param(MPI, "keras", marks=long)],
)
def test_02_a_killed_rank(job: Callable[..., Job], launcher: str, framework: str) -> None:
    done = job("kill@1:6", 2, launcher, framework=framework)
    assert done.code == 137, done.all_output
    assert f"launch: rank 1 on {HOST} was ended by SIGKILL (computing" in done.errors, done.all_output
    assert ", iteration 6); out of memory, perhaps" in done.errors
    assert "Traceback" not in done.output + done.errors
    assert done.fault_to_end_s < ENDS_WITHIN_S["kill"]


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param([(MPI, 1)], id="mpirun"),
        pytest.param([(MPI, 0), (GLOO, 1), (GLOO, 0)], id="rank-0-and-gloo", marks=long),
    ],
)
def test_03_a_stopped_rank(job: Callable[..., Job], cases: Sequence[tuple[str, int]]) -> None:
    launch = f"--stall-timeout {STALL_TIMEOUT_S}"
    jobs = at_once(*(partial(job, f"stop@{rank}:6", 2, launcher, launch=launch) for launcher, rank in cases))
    for done, (_, rank) in zip(jobs, cases, strict=True):
        assert done.code == 124, done.all_output
        assert f"launch: stalled: rank {rank} on {HOST} has been stopped for " in done.errors, done.all_output
        assert "s (computing, iteration 6); the job is ended after --stall-timeout 8 s" in done.errors
        assert STALL_TIMEOUT_S < done.fault_to_end_s < STALL_TIMEOUT_S + STALL_MARGIN_S


@long
def test_04_a_held_lock_of_the_interpreter(job: Callable[..., Job]) -> None:
    def held(launcher: str, framework: str, timeout_s: int) -> None:
        done = job("gil@1:6", 2, launcher, framework=framework, launch=f"--stall-timeout {timeout_s}")
        assert done.code == 124, done.all_output
        sentence = f"launch: stalled: rank 1 on {HOST} has been computing, iteration 6, for "
        assert sentence in done.errors, done.all_output
        assert timeout_s < done.fault_to_end_s < timeout_s + STALL_MARGIN_S

    def in_torch() -> None:
        held(MPI, "torch", STALL_TIMEOUT_S)
        held(GLOO, "torch", STALL_TIMEOUT_S)

    at_once(in_torch, lambda: held(MPI, "keras", STALL_TIMEOUT_OF_KERAS_S))


@long
def test_05_a_slow_rank_is_warned_of_and_waited_for(job: Callable[..., Job]) -> None:
    # Late enough for the usual time of an iteration to be known, of which the guards tell once a second.
    for done in at_once(*(partial(job, "slow@1:72", 2, framework=name, epochs=20) for name in ("torch", "keras"))):
        assert done.code == 0, done.all_output
        warnings = [line for line in done.errors.splitlines() if line.startswith("warning: ")]
        assert len(warnings) == 1, done.all_output
        assert warnings[0].startswith(f"warning: rank 1 on {HOST} has been computing, iteration 72, for "), warnings
        assert "validation error" in done.output


@long
def test_06_a_rank_that_skips_a_collective(job: Callable[..., Job]) -> None:
    done = job("skip-collective@1:6", 2, launch=f"--stall-timeout {STALL_TIMEOUT_S}")
    assert done.code == 124, done.all_output
    assert f"launch: stalled: rank 1 on {HOST} is out of step, it is reducing gradients, iteration 7;" in done.errors, (
        done.all_output
    )
    assert "1 others are reducing gradients, iteration 6; a collective was left out" in done.errors
    assert done.fault_to_end_s < STALL_TIMEOUT_S + STALL_MARGIN_S
