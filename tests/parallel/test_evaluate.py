"""`evaluate`: the errors that training reported, on any number of processes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ranks import program, run, run_ranks
from training import RECIPE, rows, train_all

from hvd_imagenet.checkpoint.format import sealed


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
    assert (
        "iteration-00000008 (the running average of the weights): 23 validation images of all 4 classes by name, loss "
        in done.stdout
    )
    assert done.stdout.count("\n") == 1


def evaluated(trained: Path, data: Path) -> dict[str, Any]:
    done = run(program("launch", "-np", "2", "--", *words(trained / "plain", data, "--json")), timeout_s=90)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {name: value for name, value in found.items() if name not in ("checkpoint", "processes")}


def test_the_same_images_in_other_layouts(trained: Path, few_digits: Path, tmp_path: Path) -> None:
    reference = evaluated(trained, few_digits)
    assert (reference["classes"], reference["network_classes"], reference["classes_matched_by"]) == (4, 4, "name")
    alone = Path(shutil.copytree(few_digits / "val", tmp_path / "alone"))
    assert evaluated(trained, alone) == reference
    flat, labels = tmp_path / "flat", []
    flat.mkdir()
    for number, file in enumerate(sorted(alone.glob("*/*")), start=1):
        shutil.copy(file, flat / f"ILSVRC2012_val_{number:08d}.JPEG")
        labels.append(file.parent.name)
    (flat / "val_labels.txt").write_text("\n".join(labels))
    assert evaluated(trained, flat) == reference
    for digit in range(4):
        (alone / f"digit{digit}").rename(alone / str(digit))
    assert evaluated(trained, alone) == {**reference, "classes_matched_by": "number"}
    for digit in (0, 2):
        shutil.rmtree(alone / str(digit))
    part = evaluated(trained, alone)
    assert (part["images"], part["classes"], part["classes_matched_by"]) == (11, 2, "number")


def test_a_checkpoint_without_names_takes_those_of_train(trained: Path, few_digits: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(trained / "plain", tmp_path / "plain"))
    for path in old.glob("checkpoints/*/manifest.json"):
        manifest = json.loads(path.read_text())
        assert manifest.pop("classes") == [f"digit{digit}" for digit in range(4)]
        path.write_text(json.dumps(sealed(manifest)))
    assert evaluated(tmp_path, few_digits) == evaluated(trained, few_digits)
    fewer = Path(shutil.copytree(few_digits, tmp_path / "fewer"))
    for split in ("train", "val"):
        shutil.rmtree(fewer / split / "digit3")
    done = run(program(*words(old, fewer)), timeout_s=90)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"tells 4 classes apart, but {fewer} has 3; give the data that it was trained on\n")


def test_mistakes(trained: Path, few_digits: Path, tmp_path: Path) -> None:
    others = Path(shutil.copytree(few_digits / "val", tmp_path / "others"))
    (others / "digit3").rename(others / "digit7")
    for command, message in {
        tuple(words(trained / "plain", others)): "class 'digit7' is not among the 4 training classes",
        tuple(words(tmp_path / "none", few_digits)): "no such folder",
        tuple(words(trained / "plain", few_digits, "--threads", "0")): "--threads must be an integer of 1 or more",
    }.items():
        done = run(program("launch", "-np", "2", "--", *command), timeout_s=90)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert message in done.stderr
