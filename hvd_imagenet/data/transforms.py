"""Which part of an image is shown, and whether it is mirrored (section 5.1 of the paper): plain arithmetic, no pixels.

Every decision is a pure function of (seed, epoch, image), so that it does not depend on the process, the thread
or the order in which images are read.
"""

import math
from dataclasses import dataclass

import numpy as np

from hvd_imagenet.core.counter_random import uniform

# x, y of the upper left corner, width, height; in pixels of the source image, fractions allowed.
Box = tuple[float, float, float, float]

ATTEMPTS = 10
# Keep the draws of the two decisions apart from each other, and from whatever else is drawn from the same seed.
_CROP_DOMAIN = 0x43524F50
_FLIP_DOMAIN = 0x464C4950


def _check_range(name: str, pair: tuple[float, float], highest: float) -> None:
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= highest or not math.isfinite(pair[1]):
        limit = "" if math.isinf(highest) else f" <= {highest:g}"
        raise ValueError(f"{name} must be a pair (low, high) with 0 < low <= high{limit}, got {pair!r}")


@dataclass(frozen=True)
class Augmentation:
    """The random crop and flip of a training image (section 5.1 of the paper).

    Attributes:
        area_range: least and greatest area of the crop, as fractions of the image's area.
        aspect_range: least and greatest width / height of the crop.
        horizontal_flip: whether every second image, by chance, is mirrored.

    Raises:
        ValueError: a range that is empty or out of bounds.

    Example:
        >>> Augmentation(horizontal_flip=False).area_range
        (0.08, 1.0)
    """

    area_range: tuple[float, float] = (0.08, 1.0)
    aspect_range: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: bool = True

    def __post_init__(self) -> None:
        """Checks both ranges."""
        _check_range("area_range", self.area_range, 1.0)
        _check_range("aspect_range", self.aspect_range, math.inf)


@dataclass(frozen=True)
class CentreCrop:
    """The one deterministic crop of a validation image (section 5.1 of the paper).

    Attributes:
        resize_px: what the shorter side is resized to before the central square is cut out.

    Example:
        >>> CentreCrop(resize_px=256)
        CentreCrop(resize_px=256)
    """

    resize_px: int = 256

    def __post_init__(self) -> None:
        """Checks the size."""
        if self.resize_px < 1:
            raise ValueError(f"resize_px must be at least 1, got {self.resize_px}")


def crop_draws(seed: int, epochs: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The random numbers behind the crops of several images, drawn in one go.

    Args:
        seed: of the run.
        epochs: int64 (n,), the epoch that each image is taken in.
        images: int64 (n,), the images' numbers.

    Returns:
        float64 (n, ATTEMPTS, 4) in [0, 1): for every attempt area, aspect ratio, x, y.

    Example:
        >>> both = crop_draws(1, np.array([0, 0]), np.array([5, 6]))
        >>> bool((crop_draws(1, np.array([0]), np.array([6]))[0] == both[1]).all())
        True
    """
    counters = np.arange(ATTEMPTS * 4)
    draws = uniform(seed, _CROP_DOMAIN, epochs[:, np.newaxis], images[:, np.newaxis], counters)
    return draws.reshape(len(images), ATTEMPTS, 4)


def box_of_draws(width: int, height: int, augmentation: Augmentation, draws: np.ndarray) -> tuple[int, int, int, int]:
    """Turns random numbers into a crop box, by torchvision's RandomResizedCrop algorithm.

    The area is drawn uniformly, the aspect ratio log-uniformly. A box that does not fit is drawn anew; when no
    attempt fits, the largest central box whose aspect ratio is within the range is taken.

    Args:
        width: of the image, pixels.
        height: of the image, pixels.
        augmentation: the ranges.
        draws: float64 (attempts, 4) in [0, 1): for every attempt area, aspect ratio, x, y.

    Returns:
        x, y, width, height in whole pixels, inside the image.

    Example:
        >>> box_of_draws(100, 100, Augmentation(area_range=(0.25, 0.25), aspect_range=(1, 1)), np.full((1, 4), 0.5))
        (25, 25, 50, 50)
    """
    (low, high), (narrow, wide) = augmentation.area_range, augmentation.aspect_range
    log_narrow, log_wide = math.log(narrow), math.log(wide)
    for area_draw, aspect_draw, x_draw, y_draw in draws.tolist():
        area = width * height * (low + (high - low) * area_draw)
        aspect = math.exp(log_narrow + (log_wide - log_narrow) * aspect_draw)
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            x, y = int(x_draw * (width - box_width + 1)), int(y_draw * (height - box_height + 1))
            return x, y, box_width, box_height
    box_width, box_height = width, height
    if width / height < narrow:
        box_height = max(1, round(width / narrow))
    elif width / height > wide:
        box_width = max(1, round(height * wide))
    return (width - box_width) // 2, (height - box_height) // 2, box_width, box_height


def random_resized_crop_box(
    width: int, height: int, augmentation: Augmentation, seed: int, epoch: int, image: int
) -> tuple[int, int, int, int]:
    """The crop of one image in one epoch (section 5.1 of the paper).

    Args:
        width: of the image, pixels.
        height: of the image, pixels.
        augmentation: the ranges of area and aspect ratio.
        seed: of the run.
        epoch: that the image is taken in.
        image: its number in the listing.

    Returns:
        x, y, width, height in whole pixels, inside the image.

    Raises:
        ValueError: an image without pixels.

    Example:
        >>> box = random_resized_crop_box(500, 375, Augmentation(), seed=1, epoch=0, image=7)
        >>> box == random_resized_crop_box(500, 375, Augmentation(), seed=1, epoch=0, image=7)
        True
    """
    _check_image_size(width, height)
    draws = crop_draws(seed, np.array([epoch]), np.array([image]))[0]
    return box_of_draws(width, height, augmentation, draws)


def flip_decisions(seed: int, epochs: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Which images are mirrored: each with probability a half.

    Args:
        seed: of the run.
        epochs: int64 (n,), the epoch that each image is taken in.
        images: int64 (n,), the images' numbers.

    Returns:
        bool (n,).

    Example:
        >>> float(flip_decisions(1, np.zeros(10_000, int), np.arange(10_000)).mean().round(1))
        0.5
    """
    return np.asarray(uniform(seed, _FLIP_DOMAIN, epochs, images) < 0.5)


def validation_box(width: int, height: int, resize_px: int, size_px: int) -> Box:
    """The central square that remains after the shorter side is resized to `resize_px` and `size_px` cut out.

    Both steps are one: the box is in the source image's pixels, so one resize of it to `size_px` does everything.

    Args:
        width: of the image, pixels.
        height: of the image, pixels.
        resize_px: what the shorter side is resized to.
        size_px: side of the square cut out of that.

    Returns:
        x, y, width, height, with fractions of pixels.

    Raises:
        ValueError: an image without pixels, or a square larger than the resized image's shorter side.

    Example:
        >>> validation_box(512, 1024, resize_px=256, size_px=224)
        (32.0, 288.0, 448.0, 448.0)
    """
    _check_image_size(width, height)
    if not 1 <= size_px <= resize_px:
        raise ValueError(f"size_px must be from 1 to resize_px ({resize_px}), got {size_px}")
    side = size_px * min(width, height) / resize_px
    return (width - side) / 2, (height - side) / 2, side, side


def _check_image_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ValueError(f"width and height must be at least 1 pixel, got {width} x {height}")
