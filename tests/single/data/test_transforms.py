import math
import random

import numpy as np
import pytest

from hvd_imagenet.data.transforms import (
    ATTEMPTS,
    Augmentation,
    CentreCrop,
    box_of_draws,
    crop_draws,
    flip_decisions,
    random_resized_crop_box,
    validation_box,
)

PAPER = ((0.08, 1.0), (3 / 4, 4 / 3))
NEVER_FITS = [1.0 - 2**-53, 1.0 - 2**-53, 0.0, 0.0]


@pytest.mark.parametrize(
    ("size", "area_range", "aspect_range", "draws", "box"),
    [
        # 0.25 of 100 x 100 is 50 x 50; 51 places each way.
        ((100, 100), (0.25, 0.25), (1, 1), [[0, 0, 0.5, 0.5]], (25, 25, 50, 50)),
        ((100, 100), (0.25, 0.25), (1, 1), [[0, 0, 0, 0]], (0, 0, 50, 50)),
        ((100, 100), (0.25, 0.25), (1, 1), [[0, 0, 0.9999999, 0]], (50, 0, 50, 50)),
        # area halfway from 0.16 to 0.34 is 0.25
        ((100, 100), (0.16, 0.34), (1, 1), [[0.5, 0, 0, 0]], (0, 0, 50, 50)),
        # log-uniform: three quarters of the way from 1/4 to 4 is 2; 0.02 of 400 x 400 is 3200 = 80 x 40
        ((400, 400), (0.02, 0.02), (1 / 4, 4), [[0, 0.75, 0.5, 0.5]], (160, 180, 80, 40)),
        # 0.5 of 200 x 100 at 2:1 is sqrt(20000) x sqrt(5000) = 141.4 x 70.7
        ((200, 100), (0.5, 0.5), (2, 2), [[0, 0, 0, 0.999]], (0, 29, 141, 71)),
        # The first attempt is 115 wide and does not fit, the second is taken.
        ((100, 100), *PAPER, [NEVER_FITS, [0, 0.5, 0.5, 0]], (36, 0, 28, 28)),
        # Nothing fits, the image's own aspect is within the range: the whole image.
        ((100, 100), *PAPER, [NEVER_FITS] * 10, (0, 0, 100, 100)),
        # Nothing fits, too wide: 4/3 of the height, centred. Too tall: 4/3 of the width.
        ((1000, 10), *PAPER, [NEVER_FITS] * 10, (493, 0, 13, 10)),
        ((10, 1000), *PAPER, [NEVER_FITS] * 10, (0, 493, 10, 13)),
        ((1, 100), *PAPER, [NEVER_FITS] * 10, (0, 49, 1, 1)),
        ((100, 1), *PAPER, [NEVER_FITS] * 10, (49, 0, 1, 1)),
        ((1, 1), *PAPER, [[0.5, 0.5, 0.5, 0.5]], (0, 0, 1, 1)),
    ],
)
def test_crop_box_by_hand(size, area_range, aspect_range, draws, box):
    assert box_of_draws(*size, Augmentation(area_range, aspect_range), np.array(draws)) == box


def _boxes(count, width, height, augmentation, seed=3):
    draws = crop_draws(seed, np.zeros(count, dtype=np.int64), np.arange(count))
    return np.array([box_of_draws(width, height, augmentation, draw) for draw in draws], dtype=float)


def test_crop_distribution_where_every_attempt_fits():
    # sqrt(0.5 x 4/3) < 1, so nothing is rejected and the moments are those of the uniform distributions.
    count, side = 20_000, 2000
    x, y, width, height = _boxes(count, side, side, Augmentation((0.1, 0.5), (3 / 4, 4 / 3))).T
    error = 4 / math.sqrt(12 * count)  # four standard errors of a uniform number's mean
    area, log_aspect = width * height / side**2, np.log(width / height)
    assert area.mean() == pytest.approx(0.3, abs=0.4 * error)
    assert area.std() == pytest.approx(0.4 / math.sqrt(12), rel=0.02)
    assert log_aspect.mean() == pytest.approx(0, abs=2 * math.log(4 / 3) * error)
    assert log_aspect.std() == pytest.approx(2 * math.log(4 / 3) / math.sqrt(12), rel=0.02)
    for share in (x / (side - width), y / (side - height)):
        assert share.mean() == pytest.approx(0.5, abs=error + 1e-3)
        assert share.min() < 0.01 < 0.99 < share.max()
    correlations = np.corrcoef([area, log_aspect, x / (side - width), y / (side - height)])
    assert np.abs(correlations - np.eye(4)).max() < 4 / math.sqrt(count)


def _torchvision_box(width, height, rng):
    """RandomResizedCrop.get_params of torchvision, written anew with Python's own random numbers."""
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(0, width - w), rng.randint(0, height - h), w, h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    return (width - w) // 2, (height - h) // 2, w, h


@pytest.mark.parametrize("size", [(500, 375), (100, 400)])
def test_crop_distribution_with_rejections_is_torchvisions(size):
    count, rng = 10_000, random.Random(1)
    ours = _boxes(count, *size, Augmentation())
    theirs = np.array([_torchvision_box(*size, rng) for _ in range(count)])
    for column in range(4):
        standard_error = math.hypot(ours[:, column].std(), theirs[:, column].std()) / math.sqrt(count)
        assert abs(ours[:, column].mean() - theirs[:, column].mean()) < 4 * standard_error
        assert ours[:, column].std() == pytest.approx(theirs[:, column].std(), rel=0.05)


def test_crop_depends_on_seed_epoch_and_image_only():
    reference = random_resized_crop_box(500, 375, Augmentation(), seed=1, epoch=2, image=3)
    assert reference == random_resized_crop_box(500, 375, Augmentation(), seed=1, epoch=2, image=3)
    others = [(2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2), (3, 2, 1)]
    assert all(reference != random_resized_crop_box(500, 375, Augmentation(), *other) for other in others)


def test_draws_do_not_depend_on_the_company():
    together = crop_draws(5, np.array([0, 0, 1]), np.array([8, 9, 8]))
    assert together.shape == (3, ATTEMPTS, 4)
    assert (crop_draws(5, np.array([1]), np.array([8]))[0] == together[2]).all()
    assert len(np.unique(together)) == together.size


def test_flips_are_fair_and_independent():
    images = np.arange(20_000)
    first, second = (flip_decisions(1, np.full_like(images, epoch), images) for epoch in (0, 1))
    assert first.dtype == bool
    for half in (first.mean(), (first == second).mean(), (first[1:] == first[:-1]).mean()):
        assert half == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(len(images)))
    assert (flip_decisions(1, np.array([1]), np.array([77])) == second[77]).all()


@pytest.mark.parametrize(
    ("size", "resize_px", "size_px", "box"),
    [
        ((512, 1024), 256, 224, (32, 288, 448, 448)),
        ((1024, 512), 256, 224, (288, 32, 448, 448)),
        # 375 x 224 / 256 = 328.125
        ((500, 375), 256, 224, (85.9375, 23.4375, 328.125, 328.125)),
        ((32, 32), 32, 32, (0, 0, 32, 32)),
        ((30, 32), 32, 32, (0, 1, 30, 30)),
        ((1, 3), 8, 4, (0.25, 1.25, 0.5, 0.5)),
    ],
)
def test_validation_box_by_hand(size, resize_px, size_px, box):
    assert validation_box(*size, resize_px, size_px) == box


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: validation_box(10, 10, 224, 256), "size_px must be from 1 to resize_px (224), got 256"),
        (lambda: validation_box(0, 10, 256, 224), "width and height must be at least 1 pixel, got 0 x 10"),
        (
            lambda: random_resized_crop_box(10, 0, Augmentation(), 0, 0, 0),
            "width and height must be at least 1 pixel, got 10 x 0",
        ),
        (
            lambda: Augmentation(area_range=(0.0, 1.0)),
            "area_range must be a pair (low, high) with 0 < low <= high <= 1, got (0.0, 1.0)",
        ),
        (
            lambda: Augmentation(area_range=(0.5, 1.5)),
            "area_range must be a pair (low, high) with 0 < low <= high <= 1, got (0.5, 1.5)",
        ),
        (
            lambda: Augmentation(aspect_range=(2.0, 1.0)),
            "aspect_range must be a pair (low, high) with 0 < low <= high, got (2.0, 1.0)",
        ),
        (
            lambda: Augmentation(aspect_range=(1.0, math.inf)),
            "aspect_range must be a pair (low, high) with 0 < low <= high, got (1.0, inf)",
        ),
        (
            lambda: Augmentation(aspect_range=(math.nan, 1.0)),
            "aspect_range must be a pair (low, high) with 0 < low <= high, got (nan, 1.0)",
        ),
        (lambda: CentreCrop(0), "resize_px must be at least 1, got 0"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message
