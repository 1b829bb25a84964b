"""`evaluate`: the errors that training reported, on any number of processes."""

import json
import shutil
from pathlib import Path

import pytest
from ranks import program, run, run_ranks
from training import RECIPE, rows, train_all


@pytest.fixture(scope="module")
def trained(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluate")
    fields = {**RECIPE, "minibatch": 16, "per_worker": 8}
    runs = [
        ("plain", fields, {"max_iterations": 8}),
        ("average", {**fields, "model_ema_decay": 0.5}, {"max_iterations": 8}),
    ]
    run_ranks(1, train_all, str(few_digits), str(out), runs)
    return out


def words(trained: Path, data: Path, *more: str) -> list[str]:
    return ["evaluate", "--checkpoint", str(trained), "--data", str(data), *more]


@pytest.mark.parametrize(("name", "weights"), [("plain", "model"), ("average", "model_ema")])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_evaluate_repeats_what_training_reported(
    trained: Path, few_digits: Path, processes: int, name: str, weights: str
) -> None:
    command = words(trained / name, few_digits, "--json")
    done = run(program("launch", "-np", str(processes), "--", *command), timeout_s=90)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    reported = rows(trained / name, "metrics.csv")[-1]
    assert (told["images"], told["processes"], told["weights"]) == (23, processes, weights)
    assert told["val_error"] == pytest.approx(float(reported["val_error"]), abs=1e-3)
    assert told["val_error_top5"] == pytest.approx(float(reported["val_error_top5"]), abs=1e-3)
    assert told["val_loss"] == pytest.approx(float(reported["val_loss"]), rel=1e-4)


def test_the_line_for_people(trained: Path, few_digits: Path) -> None:
    done = run(program(*words(trained / "average", few_digits)), timeout_s=90)
    assert done.returncode == 0, done.stderr
    assert "iteration-00000008 (the running average of the weights): 23 validation images, loss " in done.stdout
    assert done.stdout.count("\n") == 1


def test_mistakes(trained: Path, few_digits: Path, tmp_path: Path) -> None:
    fewer = tmp_path / "fewer"
    shutil.copytree(few_digits, fewer)
    for split in ("train", "val"):
        shutil.rmtree(fewer / split / "digit3")
    for command, message in {
        tuple(words(trained / "plain", fewer)): "tells 4 classes apart, but",
        tuple(words(tmp_path / "none", few_digits)): "no such folder",
        tuple(words(trained / "plain", few_digits, "--threads", "0")): "--threads must be an integer of 1 or more",
    }.items():
        done = run(program("launch", "-np", "2", "--", *command), timeout_s=90)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert message in done.stderr
