"""As many different images as asked for, from scikit-learn's digits: turned, scaled, shifted, with clutter and noise.

Training and validation images come from different originals, so that validation asks for more than memory.
"""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from hvd_imagenet.core.counter_random import normal, uniform
from hvd_imagenet.data.digits import validation_mask

CLASSES = 10
_T = TypeVar("_T")
_SPLITS = ("train", "val")
_DRAWS_DOMAIN, _NOISE_DOMAIN = 0x434C5554, 0x434E4F49
_SCAN_PX = 8
_FULL_INK = 16
_TURN_DEGREES = 35
_SIDES = (0.55, 1.0)  # of the digit, in units of the image's
_SCRAPS, _SCRAP_PX = 4, 4
_DRAWS_OF_DIGIT, _DRAWS_OF_SCRAP = 7, 9
_NOISE = 20.0
# How many images are drawn from one call of the random numbers.
_BLOCK = 256


@dataclass(frozen=True)
class ClutteredDigitsOptions:
    """What determines the images.

    Attributes:
        images: number of training images; a quarter as many validation images come on top.
        size: side of the square images in pixels.
        seed: another seed, other images of the same originals.

    Raises:
        ValueError: a number out of bounds; the message begins with its name.

    Example:
        >>> ClutteredDigitsOptions(images=100).validation_images
        25
    """

    images: int = 20_000
    size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks every number."""
        if self.validation_images < CLASSES:
            raise ValueError(
                f"images must be at least {4 * CLASSES}, for one validation image a class, got {self.images}"
            )
        if not 8 <= self.size <= 1024:
            raise ValueError(f"size must be from 8 to 1024 pixels, got {self.size}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")

    @property
    def validation_images(self) -> int:
        """The number of validation images."""
        return self.images // 4

    def as_dict(self) -> dict[str, int]:
        """The options by name."""
        return asdict(self)


def cluttered_digit_files(options: ClutteredDigitsOptions) -> Iterator[tuple[str, bytes]]:
    """Draws the data set; the ten digits take turns.

    Args:
        options: all that determines the images.

    Yields:
        Relative path (train/digit7/000017.JPEG) and the file's bytes, a grey JPEG.

    Example:
        >>> [path for path, _ in cluttered_digit_files(ClutteredDigitsOptions(images=40, size=16))][-2:]
        ['val/digit8/000008.JPEG', 'val/digit9/000009.JPEG']
    """
    for split, count in enumerate((options.images, options.validation_images)):
        scans = scans_of_split(split)
        for start in range(0, count, _BLOCK):
            numbers = np.arange(start, min(start + _BLOCK, count))
            for number, pixels in zip(numbers.tolist(), _draw_block(scans, options, split, numbers), strict=True):
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "JPEG", quality=90)
                yield f"{_SPLITS[split]}/digit{number % CLASSES}/{number:06d}.JPEG", file.getvalue()


def scans_of_split(split: int) -> list[list[Image.Image]]:
    """The originals of a split by digit, grey, 8 pixels wide; no original is in both.

    Args:
        split: 0 for training, 1 for validation.

    Returns:
        Ten lists.

    Example:
        >>> sum(map(len, scans_of_split(0))), sum(map(len, scans_of_split(1)))
        (1437, 360)
    """
    from sklearn.datasets import load_digits  # late: it takes a second

    scans, labels = load_digits(return_X_y=True)
    grey = np.round(scans.reshape(-1, _SCAN_PX, _SCAN_PX) * (255 / _FULL_INK)).astype(np.uint8)
    chosen = validation_mask(labels) == bool(split)
    return [[Image.fromarray(scan) for scan in grey[chosen & (labels == digit)]] for digit in range(CLASSES)]


def _draw_block(
    scans: list[list[Image.Image]], options: ClutteredDigitsOptions, split: int, numbers: np.ndarray
) -> np.ndarray:
    """uint8 (n, size, size)."""
    rows, size = numbers[:, np.newaxis], options.size
    counters = np.arange(_DRAWS_OF_DIGIT + _SCRAPS * _DRAWS_OF_SCRAP)
    draws = uniform(options.seed, _DRAWS_DOMAIN, split, rows, counters).tolist()
    noise = _NOISE * normal(options.seed, _NOISE_DOMAIN, split, rows, np.arange(size * size))
    images = [_draw(scans, number % CLASSES, size, row) for number, row in zip(numbers.tolist(), draws, strict=True)]
    return np.clip(np.stack(images) + noise.reshape(-1, size, size), 0, 255).round().astype(np.uint8)


def _draw(scans: list[list[Image.Image]], digit: int, size: int, draws: list[float]) -> np.ndarray:
    """One image without noise, float64 (size, size)."""
    which, turn, scale, x, y, ground, contrast = draws[:_DRAWS_OF_DIGIT]
    side = _between(_SIDES, scale)
    room = (1.0 - side) / 2 + 0.1  # a digit may be cut off a little
    centre = (0.5 + room * (2 * x - 1), 0.5 + room * (2 * y - 1))
    ink = _placed(_pick(scans[digit], which), size, side, _TURN_DEGREES * (2 * turn - 1), centre)
    for scrap in range(_SCRAPS):
        start = _DRAWS_OF_DIGIT + scrap * _DRAWS_OF_SCRAP
        kind, which, left, upper, turn, scale, x, y, strength = draws[start : start + _DRAWS_OF_SCRAP]
        corner = [int(draw * (_SCAN_PX - _SCRAP_PX + 1)) for draw in (left, upper)]
        box = (corner[0], corner[1], corner[0] + _SCRAP_PX, corner[1] + _SCRAP_PX)
        piece = _pick(_pick(scans, kind), which).crop(box)
        side = _between(_SIDES, scale) * _SCRAP_PX / _SCAN_PX
        ink = np.maximum(ink, _between((0.4, 0.9), strength) * _placed(piece, size, side, 360 * turn, (x, y)))
    return _between((10, 70), ground) + _between((0.4, 0.7), contrast) * ink


def _placed(scan: Image.Image, size: int, side: float, turn_degrees: float, centre: tuple[float, float]) -> np.ndarray:
    """A square of ink within an empty image; side and centre in units of the image's side."""
    scale = scan.width / (side * size)
    cosine, sine = (scale * f(math.radians(turn_degrees)) for f in (math.cos, math.sin))
    x, y, middle = centre[0] * size, centre[1] * size, scan.width / 2
    to_scan = (cosine, sine, middle - cosine * x - sine * y, -sine, cosine, middle + sine * x - cosine * y)
    placed = scan.transform((size, size), Image.Transform.AFFINE, to_scan, Image.Resampling.BICUBIC)
    return np.asarray(placed, dtype=np.float64)


def _between(bounds: tuple[float, float], draw: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * draw


def _pick(choices: Sequence[_T], draw: float) -> _T:
    return choices[int(draw * len(choices))]
