"""A run from packed images is the run from their folder, and goes on from one to the other."""

from pathlib import Path

import numpy as np
import pytest
from ranks import program, run, run_ranks
from training import RECIPE, losses, rows, tensors, train_all

SIX = {**RECIPE, "minibatch": 24, "per_worker": 4}
# A checkpoint rounds the ranks' running statistics to a common value, so that all runs write them at the same times.
THREE, EIGHT = {"max_iterations": 3, "checkpoint_interval": 3}, {"max_iterations": 8, "checkpoint_interval": 3}


@pytest.fixture(scope="module")
def packed(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packed"
    done = run(program("pack", str(few_digits), str(folder)), timeout_s=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Packed 92 training and 23 validation images")
    return folder


@pytest.mark.parametrize("processes", [1, 2])
def test_the_same_run_from_packed_images(processes: int, few_digits: Path, packed: Path, tmp_path: Path) -> None:
    run_ranks(processes, train_all, few_digits, tmp_path, [("folder", SIX, EIGHT), ("moved", SIX, THREE)])
    output = run_ranks(processes, train_all, packed, tmp_path, [("packed", SIX, EIGHT), ("moved", SIX, EIGHT)])
    assert output.count("going on at iteration 3") == 1
    assert len(losses(tmp_path / "folder")) == 8
    for name in ("packed", "moved"):
        np.testing.assert_array_equal(losses(tmp_path / name), losses(tmp_path / "folder"))
        for tensor, value in tensors(tmp_path / "folder").items():
            np.testing.assert_array_equal(tensors(tmp_path / name)[tensor], value, err_msg=f"{name} {tensor}")
        errors = [
            [(row["val_error"], row["val_loss"]) for row in rows(tmp_path / run, "metrics.csv")]
            for run in ("folder", name)
        ]
        assert errors[0] == errors[1]


def test_a_damaged_shard_stops_every_process_with_one_line(packed: Path, tmp_path: Path) -> None:
    """The shard is cut, which every process sees before the first iteration."""
    broken = tmp_path / "p"
    broken.mkdir()
    for path in packed.iterdir():
        (broken / path.name).write_bytes(path.read_bytes()[: -1 if path.name == "val-00000.arrow" else None])
    words = ("train", "--recipe", "digits", "--data", str(broken), "--out", str(tmp_path / "run"))
    done = run(program("launch", "-np", "2", "--", *words), timeout_s=60)
    assert done.returncode == 2
    assert f"error: {broken}/val-00000.arrow: has " in done.stderr
    assert done.stderr.count("error: ") == 1
