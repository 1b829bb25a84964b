import shutil
from pathlib import Path

import pytest
from ranks import program, run


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scanned digits of the embedded data set."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    done = run(program("make-dataset", str(folder), "--source", "digits"), timeout_s=60)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def few_digits(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """92 training images of 4 classes, and 23 for validation, which no number of processes up to 22 divides."""
    folder = tmp_path_factory.mktemp("data") / "few-digits"
    for split, images in {"train": (23, 23, 23, 23), "val": (6, 6, 6, 5)}.items():
        for digit, count in enumerate(images):
            target = folder / split / f"digit{digit}"
            target.mkdir(parents=True)
            for file in sorted((digits / split / target.name).iterdir())[:count]:
                shutil.copy(file, target)
    return folder
