import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from hvd_imagenet.data.cluttered_digits import (
    ClutteredDigitsOptions,
    _placed,
    cluttered_digit_files,
    scans_of_split,
)


def test_counts_balance_and_kind():
    files = dict(cluttered_digit_files(ClutteredDigitsOptions(images=303, size=20)))
    per_class = Counter(path.rsplit("/", 1)[0] for path in files)
    train = [count for name, count in per_class.items() if name.startswith("train/digit")]
    val = [count for name, count in per_class.items() if name.startswith("val/digit")]
    assert (len(train), sum(train), max(train) - min(train)) == (10, 303, 1)
    assert (len(val), sum(val), max(val) - min(val)) == (10, 75, 1)
    assert len(set(files.values())) == len(files)
    picture = Image.open(io.BytesIO(next(iter(files.values()))))
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "L", (20, 20))


def test_same_seed_same_bytes_other_seed_other_bytes():
    options = {"images": 300, "size": 16}
    first, again = (dict(cluttered_digit_files(ClutteredDigitsOptions(**options, seed=1))) for _ in range(2))
    other = dict(cluttered_digit_files(ClutteredDigitsOptions(**options, seed=2)))
    assert first == again
    assert first.keys() == other.keys()
    assert not set(first.values()) & set(other.values())


def test_an_image_does_not_depend_on_how_many_there_are():
    few = dict(cluttered_digit_files(ClutteredDigitsOptions(images=40)))
    many = dict(cluttered_digit_files(ClutteredDigitsOptions(images=600)))
    assert few.items() <= many.items()


def test_no_original_is_in_both_splits():
    train, val = ({scan.tobytes() for scans in scans_of_split(split) for scan in scans} for split in (0, 1))
    assert (len(train), len(val)) == (1437, 360)
    assert not train & val
    labels = load_digits().target
    of_split = [scans_of_split(split) for split in (0, 1)]
    for digit in range(10):
        assert len(of_split[0][digit]) + len(of_split[1][digit]) == np.count_nonzero(labels == digit)


def test_a_digit_is_placed_turned_and_scaled():
    scan = scans_of_split(0)[7][0]
    same = _placed(scan, 8, 1.0, 0.0, (0.5, 0.5))
    np.testing.assert_allclose(same, np.asarray(scan, dtype=float), atol=1)
    turned = _placed(scan, 8, 1.0, 90.0, (0.5, 0.5))
    assert min(np.abs(turned - np.rot90(same, turns)).max() for turns in (1, 3)) <= 1
    small = _placed(scan, 32, 0.25, 0.0, (0.25, 0.75))
    np.testing.assert_allclose(small[20:28, 4:12], np.asarray(scan, dtype=float), atol=1)
    small[20:28, 4:12] = 0
    assert not small.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 39}, "images must be at least 40, for one validation image a class, got 39"),
        ({"size": 7}, "size must be from 8 to 1024 pixels, got 7"),
        ({"size": 2000}, "size must be from 8 to 1024 pixels, got 2000"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_bad_options(arguments, message):
    with pytest.raises(ValueError) as error:
        ClutteredDigitsOptions(**arguments)
    assert str(error.value) == message
