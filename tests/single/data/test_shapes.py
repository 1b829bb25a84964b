import io
import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from hvd_imagenet.data.shape_drawing import CLASS_NAMES, OUTLINES, TEXTURES, draw_shape
from hvd_imagenet.data.shapes import ShapesOptions, shape_files


def test_forty_classes():
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == len(OUTLINES) * len(TEXTURES) == 40


def test_counts_balance_and_size():
    files = dict(shape_files(ShapesOptions(images=603, classes=7, size=20)))
    per_class = Counter(path.rsplit("/", 1)[0] for path in files)
    train = [count for name, count in per_class.items() if name.startswith("train/")]
    val = [count for name, count in per_class.items() if name.startswith("val/")]
    assert (len(train), sum(train), max(train) - min(train)) == (7, 603, 1)
    assert (len(val), sum(val), max(val) - min(val)) == (7, 150, 1)
    assert len(set(files.values())) == len(files)
    picture = Image.open(io.BytesIO(next(iter(files.values()))))
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (20, 20))


def test_same_seed_same_bytes_other_seed_other_bytes():
    options = {"images": 300, "classes": 5, "size": 24}
    first, again = (dict(shape_files(ShapesOptions(**options, seed=1))) for _ in range(2))
    other = dict(shape_files(ShapesOptions(**options, seed=2)))
    assert first == again
    assert first.keys() == other.keys()
    assert not set(first.values()) & set(other.values())


def test_an_image_does_not_depend_on_how_many_there_are():
    few = dict(shape_files(ShapesOptions(images=40, classes=4, size=24)))
    many = dict(shape_files(ShapesOptions(images=400, classes=4, size=24)))
    assert few.items() <= many.items()


def test_splits_and_images_differ():
    pictures = {draw_shape(3, 24, *key).tobytes() for key in ((1, 0, 0), (1, 1, 0), (1, 0, 1), (2, 0, 0), (0, 0, 1))}
    assert len(pictures) == 5


@pytest.mark.parametrize(
    ("texture", "share"),
    [("solid", 0.0), ("striped", 0.5), ("chequered", 0.5), ("dotted", math.pi * 0.14**2 / 0.44**2)],
)
def test_share_of_the_second_colour(texture, share):
    u, v = np.meshgrid(np.linspace(-7, 7, 1500), np.linspace(-7, 7, 1500))
    assert TEXTURES[texture](u, v).mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("kind", OUTLINES)
def test_outlines_stay_within_their_radius(kind):
    reach = max(math.hypot(x, y) for value, points in OUTLINES[kind] if value for x, y in points)
    assert 0.8 < reach <= 1.2


@pytest.mark.parametrize("size", [16, 33, 300])
@pytest.mark.parametrize("class_index", [0, 15, 26, 39])
def test_any_size(class_index, size):
    assert draw_shape(class_index, size, 0, 0, 1).size == (size, size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 1}, "classes must be from 2 to 40, got 1"),
        ({"classes": 41}, "classes must be from 2 to 40, got 41"),
        (
            {"images": 39, "classes": 10},
            "images must be at least 4 x classes (40), for one validation image a class, got 39",
        ),
        (
            {"images": -4, "classes": 2},
            "images must be at least 4 x classes (8), for one validation image a class, got -4",
        ),
        ({"size": 15}, "size must be from 16 to 4096 pixels, got 15"),
        ({"size": 5000}, "size must be from 16 to 4096 pixels, got 5000"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_bad_options(arguments, message):
    with pytest.raises(ValueError) as error:
        ShapesOptions(**arguments)
    assert str(error.value) == message
