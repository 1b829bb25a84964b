"""Images from memory at no cost: what a run's speed is where no reader holds it up."""

from collections.abc import Generator, Iterable

import numpy as np

from hvd_imagenet.data.reader import Batch, Reader, Request
from hvd_imagenet.data.transforms import CentreCrop
from hvd_imagenet.errors import UserError

FINGERPRINT = "synthetic"
_TRAIN, _VALIDATION, _CLASSES = 1_281_167, 1_000, 1_000  # as many as ImageNet, but for validation, which is no speed


class SyntheticImages:
    """As many images and classes as wanted, none of which has a file.

    Args:
        images: how many; image i has label i modulo the number of classes.
        classes: how many.

    Example:
        >>> images = SyntheticImages(images=5, classes=3)
        >>> len(images), images.labels.tolist(), images.classes
        (5, [0, 1, 2, 0, 1], ('0000', '0001', '0002'))
    """

    def __init__(self, images: int, classes: int = _CLASSES) -> None:
        self.classes: tuple[str, ...] = tuple(f"{number:04d}" for number in range(classes))
        self.labels = np.arange(images, dtype=np.int64) % classes

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    def read(self, image: int) -> bytes:
        """Raises UserError: SyntheticReader gives their pixels."""
        raise UserError(f"{self.name(image)}: synthetic images have no files; read them with SyntheticReader")

    def name(self, image: int) -> str:
        """What an image is called in messages."""
        return f"synthetic image {image}"

    def fingerprint(self) -> str:
        """The same for all of them."""
        return FINGERPRINT


class SyntheticReader(Reader):
    """Gives the same random pixels again and again, with the labels of the images asked for; without threads.

    Args:
        images: whose labels are given.
        image_size_px: side of the squares returned.
        seed: of the pixels.

    Example:
        >>> reader = SyntheticReader(SyntheticImages(100), image_size_px=8)
        >>> requests = [(np.zeros(2, int), np.array([7, 8]))] * 3
        >>> [(pixels.shape, labels.tolist()) for pixels, labels in reader.batches(requests)][-1]
        ((2, 8, 8, 3), [7, 8])
    """

    def __init__(self, images: SyntheticImages, image_size_px: int, seed: int = 0) -> None:
        super().__init__(images, CentreCrop(image_size_px), image_size_px, seed, threads=1)
        self._pixels = np.empty((0, image_size_px, image_size_px, 3), dtype=np.uint8)

    def batches(self, requests: Iterable[Request]) -> Generator[Batch, None, None]:
        """One batch for every request; as Reader.batches, but all batches share one array, not to be written to."""
        for _, images in requests:
            if len(images) > len(self._pixels):
                shape = (len(images), *self._pixels.shape[1:])
                self._pixels = np.random.default_rng(self._seed).integers(0, 256, shape, dtype=np.uint8)
            yield self._pixels[: len(images)], self._images.labels[images]


def synthetic_dataset() -> tuple[SyntheticImages, SyntheticImages]:
    """As many training images and classes as ImageNet has, and 1,000 validation images.

    Example:
        >>> train, validation = synthetic_dataset()
        >>> len(train), len(validation), len(train.classes), train.fingerprint()
        (1281167, 1000, 1000, 'synthetic')
    """
    return SyntheticImages(_TRAIN), SyntheticImages(_VALIDATION)
