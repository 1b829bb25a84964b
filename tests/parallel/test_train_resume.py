"""A run that was stopped or killed goes on with the very next image, on as many processes as there are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranks import run_ranks
from training import RECIPE, UNMEASURED, distance, losses, rows, tensors, train_all

# 24 of 92 images an iteration: 5 iterations end within the second epoch, 10 within the third.
SIX = {**RECIPE, "minibatch": 24, "per_worker": 4, "model_ema_decay": 0.5, "label_smoothing": 0.1}
TWELVE = {**RECIPE, "minibatch": 48, "per_worker": 4}
FIVE, TEN = {"max_iterations": 5, "checkpoint_interval": 5}, {"max_iterations": 10, "checkpoint_interval": 5}


@pytest.fixture(scope="module", params=[1, 2])
def runs(request: pytest.FixtureRequest, few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp(f"resume-{request.param}")
    sequence: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("whole", SIX, TEN),
        ("stopped", SIX, FIVE),
        ("elsewhere", SIX, {**TEN, "resume": str(out / "stopped")}),
        ("stopped", SIX, TEN),
        ("killed", SIX, {**TEN, "copy_of": "whole"}),
        ("never", SIX, {**FIVE, "resume": "never"}),
    ]
    output = run_ranks(request.param, train_all, few_digits, out, sequence, timeout_s=180)
    assert output.count("going on at iteration 5") == 3
    return out


@pytest.mark.parametrize("name", ["stopped", "killed", "elsewhere"])
def test_the_weights_are_those_of_a_run_without_a_stop_bit_for_bit(runs: Path, name: str) -> None:
    for part in ("model", "momentum", "model_ema"):
        expected, found = tensors(runs / "whole", part), tensors(runs / name, part)
        assert sorted(found) == sorted(expected)
        for tensor, value in expected.items():
            np.testing.assert_array_equal(found[tensor], value, err_msg=f"{part} {tensor}")
            assert found[tensor].dtype == np.float32


@pytest.mark.parametrize("name", ["stopped", "killed"])
def test_the_tables_are_those_of_a_run_without_a_stop(runs: Path, name: str) -> None:
    assert (runs / name / "iterations.csv").read_bytes() == (runs / "whole" / "iterations.csv").read_bytes()
    tables = [[{**row, **UNMEASURED} for row in rows(runs / run, "metrics.csv")] for run in (name, "whole")]
    assert tables[0] == tables[1]
    assert [(row["epoch"], row["iteration"]) for row in tables[0]] == [("0", "3"), ("1", "7"), ("2", "9")]


def test_a_checkpoint_s_path_begins_a_new_folder(runs: Path) -> None:
    assert rows(runs / "elsewhere") == rows(runs / "whole")[5:]
    summary = json.loads((runs / "elsewhere" / "summary.json").read_text())
    assert (summary["resumed_from_iteration"], summary["iterations"]) == (5, 10)


@pytest.mark.parametrize(("name", "resumed"), [("whole", 0), ("stopped", 5), ("killed", 5), ("never", 0)])
def test_the_summary_says_where_it_was_resumed(runs: Path, name: str, resumed: int) -> None:
    summary = json.loads((runs / name / "summary.json").read_text())
    assert summary["resumed_from_iteration"] == resumed


def test_on_four_then_two_then_three_processes(few_digits: Path, tmp_path: Path) -> None:
    whole = {"dtype": "float64", "max_iterations": 18}
    for processes, iterations in ((4, 6), (2, 12), (3, 18)):
        sequence = [("moved", TWELVE, {**whole, "max_iterations": iterations})]
        if processes == 2:
            sequence.append(("whole", TWELVE, whole))
        run_ranks(processes, train_all, few_digits, tmp_path, sequence, timeout_s=120)
    moved, on_two = tmp_path / "moved", tmp_path / "whole"
    assert len(rows(moved)) == 18
    np.testing.assert_allclose(losses(moved), losses(on_two), rtol=1e-9)
    for part in ("model", "momentum"):
        assert distance(tensors(moved, part), tensors(on_two, part)) <= 1e-8
    assert distance(tensors(moved), tensors(on_two)) <= 1e-9
    summary = json.loads((moved / "summary.json").read_text())
    assert (summary["resumed_from_iteration"], summary["processes"]) == (12, 3)
