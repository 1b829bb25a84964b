"""`train --train-list`: a part of the training images, which is part of what a run is."""

from pathlib import Path

import pytest
import yaml
from ranks import program, run

OPTIONS = ["--recipe", "digits", "--image-size", "16", "--validation-resize", "16", "--max-iterations", "2"]


def train(data: Path, out: Path, *words: str, processes: int = 2) -> tuple[int, str, str]:
    command = ["train", *OPTIONS, "--data", str(data), "--out", str(out), *words]
    done = run(program("launch", "-np", str(processes), "--", *command), timeout_s=90)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def lists(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two lists of ten names each."""
    folder = tmp_path_factory.mktemp("lists")
    names = sorted(f"{file.parent.name}/{file.name}" for file in (few_digits / "train").glob("*/*"))
    paths = [folder / "first.txt", folder / "second.txt"]
    for path, part in zip(paths, (names[::10], names[1::10]), strict=True):
        path.write_text("\n".join(part))
    return paths


def test_a_run_of_a_part_goes_on_with_that_part_alone(few_digits: Path, lists: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, told, errors = train(few_digits, out, "--train-list", str(lists[0]))
    assert (code, errors) == (0, "")
    assert "10 training and 23 validation images" in told
    assert yaml.safe_load((out / "config.yaml").read_text())["train_list"] == str(lists[0])
    for words in (["--train-list", str(lists[1])], []):
        code, _, errors = train(few_digits, out, *words)
        assert code == 2
        assert "is of other data: the names or classes of the training images differ" in errors
        assert "give the same --data and --train-list" in errors
    code, told, errors = train(few_digits, out, "--train-list", str(lists[0]), "--max-iterations", "3", processes=1)
    assert (code, errors) == (0, "")
    assert "going on at iteration 2" in told


def test_a_list_of_other_images(few_digits: Path, lists: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "1percent.txt"
    other.write_text(lists[0].read_text() + "\nn01440764_10026.JPEG\n")
    code, _, errors = train(few_digits, tmp_path / "run", "--train-list", str(other))
    assert (code, errors) == (
        2,
        f"error: --train-list {other}: 'n01440764_10026.JPEG' is not among the 92 training images; "
        "take the list that was made for them\n",
    )
