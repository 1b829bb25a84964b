"""scikit-learn's 1,797 scanned digits as JPEG files: real images that come with an installed package."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from hvd_imagenet.core.counter_random import uniform

SIZE_PX = 32
IMAGES = 1797
VALIDATION_IMAGES = 360
_SPLIT_SEED = 0x44494749
_FULL_INK = 16


def digit_files() -> Iterator[tuple[str, bytes]]:
    """The digits, enlarged from 8 to 32 pixels, as grey JPEG files.

    A fifth of every class is for validation, chosen by a fixed hash. No image occurs in both parts.

    Yields:
        Relative path (train/digit7/0042.JPEG) and the file's bytes.

    Example:
        >>> files = dict(digit_files())
        >>> len(files), sum(path.startswith("val/") for path in files)
        (1797, 360)
    """
    from sklearn.datasets import load_digits  # late: it takes a second

    scans, labels = load_digits(return_X_y=True)
    validation = validation_mask(labels)
    for index, (scan, label) in enumerate(zip(scans, labels.tolist(), strict=True)):
        grey = np.round(scan.reshape(8, 8) * (255 / _FULL_INK)).astype(np.uint8)
        enlarged = Image.fromarray(grey).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        enlarged.save(file, "JPEG", quality=95)
        yield f"{'val' if validation[index] else 'train'}/digit{label}/{index:04d}.JPEG", file.getvalue()


def validation_mask(labels: np.ndarray) -> np.ndarray:
    """Chooses a fifth of the images for validation, the same share of every class.

    Args:
        labels: int (N,), the class of every image.

    Returns:
        bool (N,), True where the image is for validation.

    Example:
        >>> int(validation_mask(np.array([0] * 10 + [1] * 5)).sum())
        3
    """
    shuffled_within_class = np.lexsort((uniform(_SPLIT_SEED, np.arange(len(labels))), labels))
    mask = np.zeros(len(labels), dtype=bool)
    mask[shuffled_within_class[::5]] = True
    return mask
