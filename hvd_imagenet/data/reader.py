"""Decoded batches in the order asked for, read ahead by threads of this process.

Threads, not processes: a process forked after MPI has started crashes or hangs on InfiniBand.
"""

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np

from hvd_imagenet.data.decode import decode_crop
from hvd_imagenet.data.images import Images
from hvd_imagenet.data.transforms import (
    Augmentation,
    Box,
    CentreCrop,
    box_of_draws,
    crop_draws,
    flip_decisions,
    validation_box,
)

# Epoch numbers and image numbers of one batch, int64 (n,) each.
Request = tuple[np.ndarray, np.ndarray]
# Pixels uint8 (n, size, size, 3) and labels int64 (n,).
Batch = tuple[np.ndarray, np.ndarray]

# Enough images for a task to outweigh its handling, few enough for a batch to be spread over the threads.
_IMAGES_PER_TASK = 16
_MAX_THREADS = 8
THREAD_NAME = "hvd-imagenet-reader"


def default_threads() -> int:
    """The cores that this process may use, at least 1, at most 8.

    Example:
        >>> 1 <= default_threads() <= 8
        True
    """
    return max(1, min(_MAX_THREADS, len(os.sched_getaffinity(0))))


class Reader:
    """Reads images: every image is a pure function of (seed, epoch, image number).

    Args:
        images: where they are and which they are.
        crop: how training images are augmented, or how validation images are cropped.
        image_size_px: side of the squares returned.
        seed: of the run; it has no effect on validation images.
        threads: that decode; the cores of this process (at most 8) if None.
        prefetch_batches: how many batches beyond the one in use may be in the making.

    Raises:
        ValueError: an argument out of bounds.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from hvd_imagenet.data.listing import list_images
        >>> with tempfile.TemporaryDirectory() as name:
        ...     (Path(name) / "red").mkdir()
        ...     Image.new("RGB", (50, 40), "red").save(Path(name) / "red" / "1.png")
        ...     reader = Reader(list_images(Path(name)), Augmentation(), image_size_px=8, seed=1)
        ...     [(pixels, labels)] = reader.batches([(np.array([0, 1]), np.array([0, 0]))])
        >>> pixels.shape, pixels[1, 0, 0].tolist(), labels.tolist()
        ((2, 8, 8, 3), [255, 0, 0], [0, 0])
    """

    def __init__(
        self,
        images: Images,
        crop: Augmentation | CentreCrop,
        image_size_px: int,
        seed: int = 0,
        threads: int | None = None,
        prefetch_batches: int = 2,
    ) -> None:
        for name, value in (("image_size_px", image_size_px), ("threads", 1 if threads is None else threads)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if prefetch_batches < 0:
            raise ValueError(f"prefetch_batches must be at least 0, got {prefetch_batches}")
        if isinstance(crop, CentreCrop) and crop.resize_px < image_size_px:
            raise ValueError(f"resize_px must be at least image_size_px ({image_size_px}), got {crop.resize_px}")
        self._images = images
        self._crop = crop
        self._size_px = image_size_px
        self._seed = seed
        self._threads = default_threads() if threads is None else threads
        self._prefetch_batches = prefetch_batches

    def batches(self, requests: Iterable[Request]) -> Generator[Batch, None, None]:
        """Reads one batch for every request, in their order.

        The threads live as long as the generator: they end when it is exhausted, closed, or fails.

        Args:
            requests: epoch numbers and image numbers, int64 (n,) each, one pair a batch; taken as they are needed.

        Yields:
            Pixels uint8 (n, size, size, 3) and labels int64 (n,), in arrays that are the caller's to keep.

        Raises:
            UserError: an image file that cannot be read.
        """
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix=THREAD_NAME)
        pending: deque[tuple[Batch, list[Future[None]]]] = deque()
        try:
            for epochs, images in requests:
                pending.append(self._start(pool, epochs, images))
                if len(pending) > self._prefetch_batches:
                    yield _finished(*pending.popleft())
            while pending:
                yield _finished(*pending.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _start(
        self, pool: ThreadPoolExecutor, epochs: np.ndarray, images: np.ndarray
    ) -> "tuple[Batch, list[Future[None]]]":
        epochs, images = np.asarray(epochs, dtype=np.int64), np.asarray(images, dtype=np.int64)
        pixels = np.empty((len(images), self._size_px, self._size_px, 3), dtype=np.uint8)
        step = max(1, min(_IMAGES_PER_TASK, -(-len(images) // self._threads)))
        parts = [slice(start, start + step) for start in range(0, len(images), step)]
        futures = [pool.submit(self._decode, epochs[part], images[part], pixels[part]) for part in parts]
        return (pixels, self._images.labels[images]), futures

    def _decode(self, epochs: np.ndarray, images: np.ndarray, pixels: np.ndarray) -> None:
        """Decodes a few images into `pixels`, a view of the batch."""
        crop = self._crop
        flips = np.zeros(len(images), dtype=bool)
        if isinstance(crop, Augmentation):
            draws = crop_draws(self._seed, epochs, images)
            if crop.horizontal_flip:
                flips = flip_decisions(self._seed, epochs, images)
        for index, image in enumerate(images.tolist()):
            if isinstance(crop, Augmentation):
                choose_box = partial(_augmented_box, augmentation=crop, draws=draws[index])
            else:
                choose_box = partial(validation_box, resize_px=crop.resize_px, size_px=self._size_px)
            data, name = self._images.read(image), self._images.name(image)
            pixels[index] = decode_crop(data, name, choose_box, self._size_px, bool(flips[index]))


def _augmented_box(width: int, height: int, augmentation: Augmentation, draws: np.ndarray) -> Box:
    return box_of_draws(width, height, augmentation, draws)


def _finished(batch: Batch, futures: "list[Future[None]]") -> Batch:
    for future in futures:
        future.result()
    return batch
