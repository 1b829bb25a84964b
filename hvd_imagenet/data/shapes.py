"""A data set of as many procedural images as asked for, for trials and timings of any size."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial

from hvd_imagenet.data.shape_drawing import CLASS_NAMES, draw_shape

_SPLITS = ("train", "val")
# How many images are drawn ahead of being written.
_BLOCK = 256
_THREADS = 4


@dataclass(frozen=True)
class ShapesOptions:
    """What determines the images.

    Attributes:
        images: number of training images; a quarter as many validation images come on top.
        classes: number of classes.
        size: side of the square images in pixels.
        seed: another seed, other images.

    Raises:
        ValueError: a number out of bounds; the message begins with its name.

    Example:
        >>> ShapesOptions(images=100, classes=5).validation_images
        25
    """

    images: int = 4000
    classes: int = 10
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks every number."""
        if not 2 <= self.classes <= len(CLASS_NAMES):
            raise ValueError(f"classes must be from 2 to {len(CLASS_NAMES)}, got {self.classes}")
        if self.validation_images < self.classes:
            raise ValueError(
                f"images must be at least 4 x classes ({4 * self.classes}), for one validation image a class, "
                f"got {self.images}"
            )
        if not 16 <= self.size <= 4096:
            raise ValueError(f"size must be from 16 to 4096 pixels, got {self.size}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")

    @property
    def validation_images(self) -> int:
        """The number of validation images."""
        return self.images // 4

    def as_dict(self) -> dict[str, int]:
        """The options by name."""
        return asdict(self)


def shape_files(options: ShapesOptions) -> Iterator[tuple[str, bytes]]:
    """Draws the data set; classes take turns, so that their numbers of images differ by one at most.

    Args:
        options: all that determines the images.

    Yields:
        Relative path (train/disc-solid/000010.JPEG) and the file's bytes.

    Example:
        >>> [path for path, _ in shape_files(ShapesOptions(images=8, classes=2, size=16))][-2:]
        ['val/disc-solid/000000.JPEG', 'val/square-solid/000001.JPEG']
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        for split, count in enumerate((options.images, options.validation_images)):
            for start in range(0, count, _BLOCK):
                block = range(start, min(start + _BLOCK, count))
                yield from pool.map(partial(_shape_file, options, split), block)


def _shape_file(options: ShapesOptions, split: int, image: int) -> tuple[str, bytes]:
    class_index = image % options.classes
    file = io.BytesIO()
    draw_shape(class_index, options.size, options.seed, split, image).save(file, "JPEG", quality=90)
    return f"{_SPLITS[split]}/{CLASS_NAMES[class_index]}/{image:06d}.JPEG", file.getvalue()
