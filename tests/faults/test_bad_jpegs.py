"""Training images that cannot be read, in both frameworks; for the particulars see test_training_on_bad_images.py."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from training_jobs import is_one_error, losses, rows, train

from hvd_imagenet.data.listing import list_dataset


@pytest.fixture(scope="module")
def damaged(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty file, one that is no image, and one that is cut off."""
    data = Path(shutil.copytree(few_digits, tmp_path_factory.mktemp("damaged") / "data"))
    listing = list_dataset(data)[0]
    for image, content in ((5, b""), (40, b"no image"), (77, Path(listing.name(77)).read_bytes()[:-30])):
        Path(listing.name(image)).write_bytes(content)
    return data


@pytest.mark.long
@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_19_bad_jpegs(damaged: Path, tmp_path: Path, framework: str) -> None:
    words = ["--framework", framework, "--dtype", "float64", "--max-iterations", "8", "--per-worker", "4"]
    stopped = train(2, damaged, tmp_path / "stopped", *words)
    is_one_error(stopped, "cannot be read as an image", "replace the file or remove it")
    runs = {ranks: tmp_path / f"on-{ranks}" for ranks in (1, 3)}
    for ranks, out in runs.items():
        done = train(ranks, damaged, out, *words, "--bad-images", "skip=3")
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(rows(out, "bad_images.csv")) == 3
    assert rows(runs[1], "bad_images.csv") == rows(runs[3], "bad_images.csv")
    np.testing.assert_allclose(losses(runs[3]), losses(runs[1]), rtol=1e-9)
