"""Training images that cannot be read, in both frameworks; for the particulars see test_training_on_bad_images.py."""

from pathlib import Path

import numpy as np
import pytest
from training_jobs import at_once, is_one_error, losses, rows, train


@pytest.mark.long
@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_19_bad_jpegs(damaged_digits: Path, tmp_path: Path, framework: str) -> None:
    words = ["--framework", framework, "--dtype", "float64", "--max-iterations", "8", "--per-worker", "4"]
    runs = {ranks: tmp_path / f"on-{ranks}" for ranks in (1, 3)}
    stopped, *skipped = at_once(
        lambda: train(2, damaged_digits, tmp_path / "stopped", *words),
        lambda: train(1, damaged_digits, runs[1], *words, "--bad-images", "skip=3"),
        lambda: train(3, damaged_digits, runs[3], *words, "--bad-images", "skip=3"),
    )
    is_one_error(stopped, "cannot be read as an image", "replace the file or remove it")
    for done, out in zip(skipped, runs.values(), strict=True):
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(rows(out, "bad_images.csv")) == 3
    assert rows(runs[1], "bad_images.csv") == rows(runs[3], "bad_images.csv")
    np.testing.assert_allclose(losses(runs[3]), losses(runs[1]), rtol=1e-9)
