"""A Keras run goes on where it was stopped: in Keras or in PyTorch, on any number of processes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_ranks import run_keras_ranks
from keras_training import evaluate_all as evaluate_all_in_keras
from keras_training import train_all as train_all_in_keras
from ranks import program, run, run_ranks
from training import RECIPE, UNMEASURED, distance, evaluate_all, losses, rows, tensors, train_all

# 24 of 92 images an iteration: the fifth iteration is in mid-epoch and in warmup, which ends with the eighth.
SIX = {**RECIPE, "minibatch": 24, "per_worker": 4, "model_ema_decay": 0.5, "label_smoothing": 0.1}
FIVE, TEN = {"max_iterations": 5, "checkpoint_interval": 5}, {"max_iterations": 10, "checkpoint_interval": 5}
DOUBLE = {"dtype": "float64"}
PARTS = ("model", "momentum", "model_ema")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def in_torch(few_digits: Path, folder: Path) -> Path:
    """A run without a stop, and one stopped after 5 iterations, in PyTorch."""
    out = folder / "torch"
    sequence: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("whole", SIX, {**TEN, **DOUBLE}),
        ("half", SIX, {**FIVE, **DOUBLE}),
    ]
    run_ranks(1, train_all, few_digits, out, sequence)
    return out


@pytest.fixture(scope="module")
def in_keras(few_digits: Path, folder: Path, in_torch: Path) -> dict[int, Path]:
    """Keras runs on 1, 2 and 3 processes; on 2, one of them goes on from PyTorch's, one from 3 processes'."""
    three = folder / "keras-3"
    run_keras_ranks(3, train_all_in_keras, few_digits, three, [("half", SIX, {**FIVE, **DOUBLE})])
    sequences: dict[int, list[tuple[str, dict[str, Any], dict[str, Any]]]] = {
        1: [("whole", SIX, TEN), ("stopped", SIX, FIVE), ("stopped", SIX, TEN)],
        2: [
            ("whole", SIX, TEN),
            ("stopped", SIX, FIVE),
            ("stopped", SIX, TEN),
            ("killed", SIX, {**TEN, "copy_of": "whole"}),
            ("half", SIX, {**FIVE, **DOUBLE}),
            ("from-torch", SIX, {**TEN, **DOUBLE, "resume": str(in_torch / "half")}),
            ("from-three", SIX, {**TEN, **DOUBLE, "resume": str(three / "half")}),
        ],
    }
    for processes, sequence in sequences.items():
        output = run_keras_ranks(
            processes, train_all_in_keras, few_digits, folder / f"keras-{processes}", sequence, timeout_s=300
        )
        assert output.count("going on at iteration 5") == {1: 1, 2: 4}[processes]
    return {processes: folder / f"keras-{processes}" for processes in (1, 2, 3)}


@pytest.fixture(scope="module")
def torch_from_keras(few_digits: Path, folder: Path, in_keras: dict[int, Path]) -> Path:
    """What Keras began on 2 processes, finished in PyTorch on 1."""
    run_ranks(
        1, train_all, few_digits, folder,
        [("from-keras", SIX, {**TEN, **DOUBLE, "resume": str(in_keras[2] / "half")})],
    )  # fmt: skip
    return folder / "from-keras"


@pytest.mark.parametrize(("processes", "name"), [(1, "stopped"), (2, "stopped"), (2, "killed")])
def test_in_keras_bit_for_bit(in_keras: dict[int, Path], processes: int, name: str) -> None:
    whole, found = in_keras[processes] / "whole", in_keras[processes] / name
    for part in PARTS:
        expected, values = tensors(whole, part), tensors(found, part)
        assert sorted(values) == sorted(expected)
        for tensor, value in expected.items():
            assert values[tensor].dtype == np.float32
            np.testing.assert_array_equal(values[tensor], value, err_msg=f"{part} {tensor}")
    assert (found / "iterations.csv").read_bytes() == (whole / "iterations.csv").read_bytes()
    tables = [[{**row, **UNMEASURED} for row in rows(run, "metrics.csv")] for run in (found, whole)]
    assert tables[0] == tables[1]
    assert [(row["epoch"], row["iteration"]) for row in tables[0]] == [("0", "3"), ("1", "7"), ("2", "9")]
    summary = json.loads((found / "summary.json").read_text())
    assert (summary["resumed_from_iteration"], summary["iterations"], summary["framework"]) == (5, 10, "keras")


def goes_on(found: Path, whole: Path) -> None:
    assert rows(found)[0]["iteration"] == "5"
    np.testing.assert_allclose(losses(found), losses(whole)[5:], rtol=1e-9)
    assert [row["lr"] for row in rows(found)] == [row["lr"] for row in rows(whole)[5:]]
    for part in PARTS:
        assert distance(tensors(found, part), tensors(whole, part)) <= 1e-9
    # The row of the epoch that the stop has split is over all of its images.
    here, there = rows(found, "metrics.csv")[0], rows(whole, "metrics.csv")[1]
    assert here["iteration"] == there["iteration"] == "7"
    for column in ("train_loss", "train_error", "val_loss", "val_error"):
        assert float(here[column]) == pytest.approx(float(there[column]), rel=2e-6)


def test_from_pytorch_to_keras(in_keras: dict[int, Path], in_torch: Path) -> None:
    goes_on(in_keras[2] / "from-torch", in_torch / "whole")


def test_from_keras_to_pytorch(torch_from_keras: Path, in_torch: Path) -> None:
    goes_on(torch_from_keras, in_torch / "whole")


def test_from_three_processes_to_two(in_keras: dict[int, Path], in_torch: Path) -> None:
    goes_on(in_keras[2] / "from-three", in_torch / "whole")


def test_both_frameworks_evaluate_the_checkpoints_of_both_alike(
    few_digits: Path, folder: Path, in_keras: dict[int, Path], in_torch: Path
) -> None:
    runs = [in_keras[2] / "whole", in_torch / "whole"]
    results = []
    for processes in (1, 2):
        for number, start in enumerate(
            (
                lambda n, out: run_keras_ranks(n, evaluate_all_in_keras, few_digits, out, runs),
                lambda n, out: run_ranks(n, evaluate_all, few_digits, out, runs),
            )
        ):
            out = folder / f"evaluated-{processes}-{number}.json"
            start(processes, out)
            results.append(json.loads(out.read_text()))
    for of_run, path in zip(zip(*results, strict=True), runs, strict=True):
        reported = rows(path, "metrics.csv")[-1]
        assert [result["processes"] for result in of_run] == [1, 1, 2, 2]
        for result in of_run:
            assert (result["images"], result["weights"]) == (23, "model_ema")
            assert result["val_error"] == pytest.approx(float(reported["val_error"]), abs=1e-3)
            assert result["val_error_top5"] == pytest.approx(float(reported["val_error_top5"]), abs=1e-3)
            assert result["val_loss"] == pytest.approx(float(reported["val_loss"]), rel=1e-5)


def test_evaluate_takes_the_checkpoint_s_framework_if_none_is_named(
    few_digits: Path, in_keras: dict[int, Path], in_torch: Path
) -> None:
    # A backend that --framework keras refuses tells the frameworks apart.
    command = ["evaluate", "--data", str(few_digits), "--checkpoint"]
    refused = run(program(*command, str(in_keras[2] / "whole")), timeout_s=60, KERAS_BACKEND="torch")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: KERAS_BACKEND=torch")
    assert refused.stderr.count("\n") == 1
    done = run(program(*command, str(in_torch / "whole")), timeout_s=60, KERAS_BACKEND="torch")
    assert (done.returncode, done.stderr) == (0, "")
    assert "23 validation images" in done.stdout
