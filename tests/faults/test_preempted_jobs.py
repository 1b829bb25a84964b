"""A signal to one rank: all agree, save once and leave with exit code 143; the next start goes on, bit for bit."""

import json
import os
import signal
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_jobs import (
    LAST,
    images_taken,
    losses,
    newest,
    no_image_is_skipped_or_repeated,
    plan,
    rows,
    tensors,
    train,
)

PREEMPTED = 128 + signal.SIGTERM


def goes_on_as_if_undisturbed(data: Path, out: Path, undisturbed: Path, *lives: Path, launcher: str = "mpirun") -> None:
    done = train(2, data, out, injected=plan(images=out.parent / "last-life"), launcher=launcher)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("model", "momentum"):
        expected = tensors(undisturbed, part)
        for name, value in tensors(out, part).items():
            if "running_" in name:  # averaged over the ranks once more than in the other run
                np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7, err_msg=name)
            else:
                np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert (out / "iterations.csv").read_bytes() == (undisturbed / "iterations.csv").read_bytes()
    columns = ("epoch", "iteration", "train_loss", "train_error")
    tables = [[[row[name] for name in columns] for row in rows(run, "metrics.csv")] for run in (out, undisturbed)]
    assert tables[0] == tables[1]
    np.testing.assert_allclose(
        *([float(row["val_loss"]) for row in rows(run, "metrics.csv")] for run in (out, undisturbed)), rtol=1e-4
    )
    taken = images_taken(*lives, out.parent / "last-life")
    no_image_is_skipped_or_repeated(taken, images=92, minibatch=24)
    assert len(taken) == LAST


def is_preempted(done: Any, name: str, out: Path, after: int) -> None:
    assert done.returncode == PREEMPTED, done.stdout + done.stderr
    said = f"{name}: stopped after {after} iterations, all of them saved; go on with --out {out}"
    lines = [line.removeprefix("[0]<stdout>:") for line in done.stdout.splitlines()]  # as horovodrun marks them
    assert [line for line in lines if line.startswith("SIG")] == [said]
    assert "Traceback" not in done.stdout + done.stderr
    assert not (out / "summary.json").exists()
    saved = sorted(path.name for path in (out / "checkpoints").glob("iteration-*"))
    # The second one of an iteration would have another name.
    assert saved[-1:] == ([f"iteration-{after:08d}"] if after else [])
    if after:
        assert newest(out) == after
        assert len(rows(out)) == after


# The ranks agree on iteration t when its sums have been reduced, and leave behind it.
@pytest.mark.parametrize(
    ("rank", "action", "iteration", "name", "after"),
    [
        pytest.param(0, "starting", "", "SIGTERM", 0, id="startup", marks=pytest.mark.long),
        pytest.param(1, "reading", 1, "SIGTERM", 2, id="warmup", marks=pytest.mark.long),
        pytest.param(1, "computing", 5, "SIGTERM", 6, id="training"),
        pytest.param(1, "validating", 3, "SIGTERM", 4, id="validation"),
    ],
)
def test_09_a_signal(
    few_digits: Path, undisturbed: Path, tmp_path: Path, rank: int, action: str, iteration: int, name: str, after: int
) -> None:
    out, life = tmp_path / "run", tmp_path / "first-life"
    done = train(2, few_digits, out, injected=plan(f"{name}@{rank}:{iteration}:{action}", images=life))
    is_preempted(done, name, out, after)
    goes_on_as_if_undisturbed(few_digits, out, undisturbed, life)


@pytest.mark.long
def test_09_a_signal_during_the_last_validation(few_digits: Path, tmp_path: Path) -> None:
    out, words = tmp_path / "run", ["--max-iterations", "3"]
    done = train(2, few_digits, out, *words, injected=plan("SIGTERM@0:2:validating"))
    is_preempted(done, "SIGTERM", out, after=3)
    assert rows(out, "metrics.csv") == []
    done = train(2, few_digits, out, *words)
    assert done.returncode == 0, done.stderr
    assert [row["iteration"] for row in rows(out, "metrics.csv")] == ["2"]
    assert json.loads((out / "summary.json").read_text())["val_error_final"] is not None
    assert "is finished" in train(2, few_digits, out, *words).stdout


@pytest.mark.long
def test_09_signals_over_gloo(few_digits: Path, undisturbed: Path, tmp_path: Path) -> None:
    """In warmup, in training and in validation of one run, which is started again each time; it ends as over MPI."""
    out, lives = tmp_path / "run", [tmp_path / f"life-{life}" for life in range(3)]
    signals = (("SIGTERM@1:1:reading", 2), ("SIGTERM@1:5", 6), ("SIGTERM@1:7:validating", 8))
    for (signal_of, after), life in zip(signals, lives, strict=True):
        done = train(2, few_digits, out, injected=plan(signal_of, images=life), launcher="horovodrun")
        is_preempted(done, "SIGTERM", out, after)
    goes_on_as_if_undisturbed(few_digits, out, undisturbed, *lives, launcher="horovodrun")


@pytest.mark.long
def test_09_a_signal_in_keras(few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for action, iteration, after in (("computing", 2, 3), ("validating", 3, 4)):
        injected = plan(f"SIGTERM@1:{iteration}:{action}")
        is_preempted(train(2, few_digits, out, "--framework", "keras", injected=injected), "SIGTERM", out, after)
    done = train(2, few_digits, out, "--framework", "keras", "--max-iterations", "8")
    assert done.returncode == 0, done.stderr
    assert [row["iteration"] for row in rows(out, "metrics.csv")] == ["3", "7"]
    assert len(losses(out)) == 8


@pytest.mark.long
def test_09_two_signals_and_more(few_digits: Path, tmp_path: Path) -> None:
    ones = [("reading", "SIGUSR1"), ("computing", "SIGTERM"), ("reducing", "SIGTERM"), ("saving", "SIGUSR1")]
    signals = [f"{name}@{rank}:5:{action}" for rank in (0, 1) for action, name in ones]
    out = tmp_path / "run"
    done = train(2, few_digits, out, injected=plan(*signals))
    assert done.returncode == PREEMPTED
    assert "stopped after 6 iterations, all of them saved" in done.stdout
    assert newest(out) == 6


@pytest.mark.long
def test_10_sigusr1_then_sigkill_after_the_grace_time(few_digits: Path, undisturbed: Path, tmp_path: Path) -> None:
    """The whole job is killed while it still leaves; what it saved after the warning is what it goes on from."""
    out, lives = tmp_path / "run", [tmp_path / "life-0", tmp_path / "life-1"]
    done = train(2, few_digits, out, injected=plan("SIGUSR1@1:4:reading", images=lives[0]))
    is_preempted(done, "SIGUSR1", out, 5)
    # This time the grace is too short: all ranks are gone before the checkpoint of iteration 9.
    signals = ["SIGUSR1@1:8:reading", "kill@0:8:saving", "kill@1:8:saving"]
    injected = plan(*signals, after=out / "checkpoints" / "iteration-00000008", images=lives[1])
    done = train(2, few_digits, out, "--checkpoint-interval", "100", injected=injected)
    assert done.returncode == 128 + signal.SIGKILL, done.stdout + done.stderr
    assert newest(out) == 8
    goes_on_as_if_undisturbed(few_digits, out, undisturbed, *lives)


@pytest.mark.parametrize(
    ("name", "requeued"), [("SIGUSR1", True), pytest.param("SIGTERM", False, marks=pytest.mark.long)]
)
def test_11_requeue(few_digits: Path, tmp_path: Path, name: str, requeued: bool) -> None:
    scontrol, calls, out = tmp_path / "bin" / "scontrol", tmp_path / "calls", tmp_path / "run"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >>{calls}\n')
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IXUSR)
    slurm = {"SLURM_JOB_ID": "4711", "PATH": f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}"}
    injected = plan(f"{name}@1:2:reading")
    done = train(2, few_digits, out, "--requeue", "--max-iterations", "6", injected=injected, **slurm)
    assert done.returncode == PREEMPTED, done.stderr
    assert newest(out) == 3
    assert (calls.read_text() if calls.exists() else "") == ("requeue 4711\n" if requeued else "")
    assert ("; Slurm job 4711 is requeued" in done.stdout) == requeued
    done = train(2, few_digits, out, "--requeue", "--max-iterations", "6", **slurm)  # as Slurm starts it again
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "summary.json").read_text())["resumed_from_iteration"] == 3
