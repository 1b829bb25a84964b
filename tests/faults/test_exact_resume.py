"""A killed run goes on bit for bit, and on other numbers of processes within rounding; no image is lost or repeated."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from training_jobs import (
    at_once,
    distance,
    images_taken,
    losses,
    no_image_is_skipped_or_repeated,
    plan,
    rows,
    tensors,
    train,
)

TEN = ["--max-iterations", "10", "--checkpoint-interval", "5"]
UNMEASURED = {"images_per_second": "", "data_wait_percent": ""}


KERAS = ["--framework", "keras"]
FIXED = ["--deterministic"]
NEVER_USED = {"acoll", "adapt", "han", "xhc", "sm"}


def is_fixed(folder: Path, ranks: int, algorithm: str) -> None:
    """What --deterministic promises by is in force in every rank when it joins the job."""
    for rank in range(ranks):
        found = json.loads((folder / f"settings-{rank}.json").read_text())
        assert (found["HOROVOD_FUSION_THRESHOLD"], found["HOROVOD_AUTOTUNE"]) == ("0", "0")
        assert found["OMPI_MCA_coll_tuned_allreduce_algorithm"] == algorithm
        assert found["OMPI_MCA_coll"].startswith("^")
        assert set(found["OMPI_MCA_coll"][1:].split(",")) >= NEVER_USED


@pytest.mark.parametrize(
    ("ranks", "launch", "words"),
    [
        pytest.param(1, [], [], id="1", marks=pytest.mark.long),
        pytest.param(1, [], KERAS, id="1-keras", marks=pytest.mark.long),
        pytest.param(2, [], ["--model-ema"], id="2"),
        pytest.param(2, [], KERAS, id="2-keras", marks=pytest.mark.long),
        pytest.param(3, ["--launcher", "horovodrun"], FIXED, id="3-gloo", marks=pytest.mark.long),
        pytest.param(3, [], [*FIXED, *KERAS], id="3-keras", marks=pytest.mark.long),
        pytest.param(4, ["--allreduce-algorithm", "ring"], FIXED, id="4-ring", marks=pytest.mark.long),
    ],
)
def test_12_ten_iterations_are_five_a_kill_and_five(
    few_digits: Path, tmp_path: Path, ranks: int, launch: list[str], words: list[str]
) -> None:
    whole, out, lives = tmp_path / "whole", tmp_path / "run", [tmp_path / "life-0", tmp_path / "life-1"]
    saved = out / "checkpoints" / "iteration-00000005"
    injected = plan(f"kill@{ranks - 1}:7", after=saved, images=lives[0], settings=tmp_path)
    undisturbed, killed = at_once(
        lambda: train(ranks, few_digits, whole, *TEN, *words, launch=launch),
        lambda: train(ranks, few_digits, out, *TEN, *words, injected=injected, launch=launch),
    )
    assert undisturbed.returncode == 0, undisturbed.stdout + undisturbed.stderr
    assert killed.returncode == 128 + signal.SIGKILL, killed.stdout + killed.stderr
    done = train(ranks, few_digits, out, *TEN, *words, injected=plan(images=lives[1]), launch=launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on at iteration 5" in done.stdout
    for part in ("model", "momentum", *(["model_ema"] if "--model-ema" in words else [])):
        for name, tensor in tensors(whole, part).items():
            np.testing.assert_array_equal(tensors(out, part)[name], tensor, err_msg=f"{part} {name}")
    assert (out / "iterations.csv").read_bytes() == (whole / "iterations.csv").read_bytes()
    tables = [[{**row, **UNMEASURED} for row in rows(run, "metrics.csv")] for run in (out, whole)]
    assert tables[0] == tables[1]
    taken = images_taken(*lives)
    assert len(taken) == 10
    no_image_is_skipped_or_repeated(taken, images=92, minibatch=24)
    if FIXED[0] in words:
        is_fixed(tmp_path, ranks, algorithm="4" if "ring" in launch else "6")


def on_four_then_two_then_three(data: Path, folder: Path, words: list[str]) -> None:
    for ranks, at, life in ((4, 2, 0), (2, 5, 1), (3, None, 2)):
        signals = [] if at is None else [f"SIGTERM@1:{at}:reading"]
        injected = plan(*signals, images=folder / f"life-{life}")
        done = train(ranks, data, folder / "run", *words, injected=injected)
        assert done.returncode == (0 if at is None else 128 + signal.SIGTERM), done.stdout + done.stderr


@pytest.mark.long
def test_13_on_four_then_two_then_three_processes(few_digits: Path, undisturbed: Path, tmp_path: Path) -> None:
    """In float32 the order of a sum is amplified from step to step; see the tolerances in DESIGN.md."""
    float64, float32, whole = tmp_path / "float64", tmp_path / "float32", tmp_path / "whole"
    in_float64 = ["--dtype", "float64"]
    done, *_ = at_once(
        lambda: train(2, few_digits, whole, *in_float64),
        lambda: on_four_then_two_then_three(few_digits, float64, in_float64),
        lambda: on_four_then_two_then_three(few_digits, float32, []),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for folder in (float64, float32):
        taken = images_taken(*(folder / f"life-{life}" for life in range(3)))
        assert len(taken) == 12
        no_image_is_skipped_or_repeated(taken, images=92, minibatch=24)
    np.testing.assert_allclose(losses(float64 / "run"), losses(whole), rtol=1e-9)
    np.testing.assert_allclose(losses(float32 / "run"), losses(undisturbed), rtol=1e-3)
    for part, tolerance in (("model", 1e-9), ("momentum", 1e-8)):
        assert distance(tensors(float64 / "run", part), tensors(whole, part)) <= tolerance
