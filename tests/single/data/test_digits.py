import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from hvd_imagenet.data.digits import digit_files, validation_mask


@pytest.fixture(scope="module")
def files():
    return dict(digit_files())


def test_split_is_stratified_and_complete(files):
    splits = [path.split("/")[0] for path in files]
    assert (splits.count("train"), splits.count("val")) == (1437, 360)
    for digit in range(10):
        in_class = [path for path in files if f"/digit{digit}/" in path]
        assert len(in_class) == np.count_nonzero(load_digits().target == digit)
        assert sum(path.startswith("val/") for path in in_class) / len(in_class) == pytest.approx(0.2, abs=0.01)


def test_originals_are_all_different(files):
    assert len({path.rsplit("/", 1)[1] for path in files}) == len(set(files.values())) == 1797


def test_pictures_are_the_scans_with_their_labels(files):
    scans, labels = load_digits(return_X_y=True)
    for path, content in files.items():
        _, class_name, name = path.split("/")
        index = int(name.removesuffix(".JPEG"))
        assert class_name == f"digit{labels[index]}"
        picture = Image.open(io.BytesIO(content))
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "L", (32, 32))
        if index % 20 == 0:
            shrunk = np.asarray(picture.reduce(4), dtype=float).ravel()
            assert np.corrcoef(shrunk, scans[index])[0, 1] > 0.97


def test_same_bytes_every_time(files):
    assert dict(digit_files()) == files


def test_validation_mask_does_not_follow_the_files_order():
    mask = validation_mask(np.zeros(1000, dtype=int))
    assert mask.sum() == 200
    gaps = np.diff(np.flatnonzero(mask))
    assert len(np.unique(gaps)) > 5
