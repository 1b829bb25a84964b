"""model.fit of a user's own model with the native callbacks: the run folder against numpy, and going on."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from keras_ranks import run_keras_ranks
from keras_run_fits import everything, raise_on_rank_1
from keras_run_reference import (
    EPOCHS,
    KERAS_MOMENTUM,
    MINIBATCH,
    MOMENTUM,
    SHARDS,
    STEPS,
    data,
    initial,
    reference,
    statistics,
)
from training import UNMEASURED, losses, rows, tensors


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("callbacks")
    run_keras_ranks(2, everything, out, timeout_s=240)
    return out


def agrees(table: list[dict[str, str]], expected: list[dict[str, float]], rtol: float) -> None:
    assert len(table) == len(expected)
    for row, wanted in zip(table, expected, strict=True):
        for name, value in wanted.items():
            assert float(row[name]) == pytest.approx(value, rel=rtol, abs=ROUNDED.get(name)), name


# Numbers that the tables hold with so many decimals.
ROUNDED = {
    "epoch": 1e-6, "train_loss": 1e-6, "val_loss": 1e-6, "train_error": 1e-4, "val_error": 1e-4,
    "val_error_top5": 1e-4,
}  # fmt: skip


# Two passes of 2 images on each rank give the mean over 8, which is also that over two shards of 4.
@pytest.mark.parametrize(("name", "shards"), [("plain", SHARDS), ("ours", SHARDS), ("passes", ((0, 4), (4, 8)))])
def test_the_rows_are_those_of_numpy(runs: Path, name: str, shards: tuple[tuple[int, int], ...]) -> None:
    iterations, epochs, w = reference(shards, MOMENTUM if name == "ours" else KERAS_MOMENTUM)
    agrees(rows(runs / name), iterations, 1e-9)
    agrees(rows(runs / name, "metrics.csv"), epochs, 2e-6)
    np.testing.assert_allclose(tensors(runs / name)["fc.weight"].T, w, rtol=1e-9, atol=1e-12)
    summary = json.loads((runs / name / "summary.json").read_text())
    assert (summary["framework"], summary["processes"], summary["iterations"]) == ("keras", 2, EPOCHS * STEPS)
    assert summary["val_error_final"] == pytest.approx(epochs[-1]["val_error"], abs=1e-4)


def test_several_steps_in_one_execution(runs: Path) -> None:
    iterations, epochs, w = reference(SHARDS, KERAS_MOMENTUM)
    # Executions of 3 steps and 2; a row holds the mean of its steps' losses, with the η of the last.
    expected = []
    for start in range(0, EPOCHS * STEPS, STEPS):
        for part in (iterations[start : start + 3], iterations[start + 3 : start + STEPS]):
            expected.append({**part[-1], "loss": np.mean([row["loss"] for row in part])})
    agrees(rows(runs / "executions"), expected, 1e-9)
    agrees(rows(runs / "executions", "metrics.csv"), epochs, 2e-6)
    np.testing.assert_allclose(tensors(runs / "executions")["fc.weight"].T, w, rtol=1e-9, atol=1e-12)


def test_passes_of_an_update_on_both_sides_of_an_epoch_s_begin(runs: Path) -> None:
    x, y, _, _ = data()
    expected = []
    for update in range(EPOCHS * 9 // 2):
        passes = [start % 18 for start in (4 * update, 4 * update + 2)]
        ids = np.array([half + start + i for half in (0, 18) for start in passes for i in (0, 1)])
        expected.append(statistics(*initial(), x[ids], y[ids])[0][0] / MINIBATCH)
    assert len(expected) == 13
    np.testing.assert_allclose(losses(runs / "across"), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("whole", "kind", "tolerance"), [("plain", "keras", 1e-12), ("ours",) * 2 + (0.0,), ("adam",) * 2 + (0.0,)]
)
def test_a_run_that_was_stopped_at_an_epoch_s_end(runs: Path, whole: str, kind: str, tolerance: float) -> None:
    # keras.optimizers.SGD keeps −η·u: the division and the multiplication round.
    stopped = runs / f"{kind}-stopped"
    np.testing.assert_allclose(losses(stopped), losses(runs / whole), rtol=tolerance)
    found, expected = tensors(stopped), tensors(runs / whole)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, err_msg=name)
    tables = [[{**row, **UNMEASURED} for row in rows(run, "metrics.csv")] for run in (stopped, runs / whole)]
    assert tables[0] == tables[1]
    assert json.loads((stopped / "summary.json").read_text())["resumed_from_iteration"] == 2 * STEPS


def test_mistakes_are_told_to_all_ranks(runs: Path) -> None:
    for told, parts in zip(
        json.loads((runs / "told.json").read_text()),
        [
            ["accuracy among its metrics, not ['loss']", 'compile(…, metrics=["accuracy"])'],
            [f"checkpoint in {runs}/plain", "fc.weight", "(7, 4)", "(6, 4)"],
            [f"checkpoint in {runs}/plain: it is of another optimizer than Adam", "compile with that one"],
            [f"checkpoint in {runs}/adam: it is of another optimizer than SGD", "compile with that one"],
            ["another recipe: epochs 3 there, 4 here", "another --out"],
            ["is of other data"],
            [f"run folder {runs}/plain/config.yaml/run: cannot be written (Not a directory)", "choose another"],
            ["validation must be among fit's callbacks"],
        ],
        strict=True,
    ):
        for part in parts:
            assert part in told


def test_an_exception_on_one_rank_ends_the_job(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit code 1") as raised:
        run_keras_ranks(2, raise_on_rank_1, tmp_path)
    raised_s = float((tmp_path / "raised_s").read_text())
    assert time.time() - raised_s < 30  # about 1 s on 2 quiet cores; Horovod itself would wait for ever
    assert "rank 1 of 2 on " in str(raised.value)
    assert "RuntimeError: a user's own mistake" in str(raised.value)
    assert "rank 0 of 2" not in str(raised.value)
    assert [row["epoch"] for row in rows(tmp_path / "raised", "metrics.csv")] == ["0"]
