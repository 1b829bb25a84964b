"""Decoded batches in the order asked for, read ahead by threads of this process.

Threads, not processes: a process forked after MPI has started crashes or hangs on InfiniBand.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from hvd_imagenet import control_groups
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
from hvd_imagenet.errors import UserError

# Epoch numbers and image numbers of one batch, int64 (n,) each.
Request = tuple[np.ndarray, np.ndarray]
# Pixels uint8 (n, size, size, 3) and labels int64 (n,).
Batch = tuple[np.ndarray, np.ndarray]

# Enough images for a task to outweigh its handling, few enough for a batch to be spread over the threads.
_IMAGES_PER_TASK = 16
_MAX_THREADS = 8
THREAD_NAME = "hvd-imagenet-reader"


def default_threads() -> int:
    """The processors that this process may use, or whose time its container gets, at least 1, at most 8.

    Example:
        >>> 1 <= default_threads() <= 8
        True
    """
    return max(1, int(min(_MAX_THREADS, len(os.sched_getaffinity(0)), control_groups.cpus())))


@dataclass(frozen=True)
class Substitution:
    """What stands in for an image that cannot be read: the next one of its virtual worker's n, cyclically.

    It is shown twice then, with its own label. Which one that is depends on the stream alone, not on the process, the
    passes or the threads.

    Attributes:
        per_worker: n; a batch holds the n images of one worker after those of another.
        report: is told the name and the reason of every image that cannot be read, where and when its batch is taken.
    """

    per_worker: int
    report: Callable[[str, str], None]


class Reader:
    """Reads images: every image is a pure function of (seed, epoch, image number).

    Its memory is bounded, whatever the consumer's speed: prefetch_batches + 2 batches of n · size² · 3 bytes at most
    (one in use, one asked for and the others in the making; 96 MB for batches of 160 images of 224 pixels), and in each
    thread one file with its decoded pixels. Batches are new arrays: in a ring of buffers they would take the same time
    (1.0 to 1.4 ms for 32 images of 224 pixels, filled, either way: the allocator gives freed memory out again), and
    would be valid only until the next one.

    Args:
        images: where they are and which they are.
        crop: how training images are augmented, or how validation images are cropped.
        image_size_px: side of the squares returned.
        seed: of the run; it has no effect on validation images.
        threads: that decode; the cores of this process (at most 8) if None.
        prefetch_batches: how many batches beyond the one in use may be in the making.
        substitution: for images that cannot be read; None: they are errors.

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
        substitution: Substitution | None = None,
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
        self._substitution = substitution

    @property
    def image_size_px(self) -> int:
        """Side of the squares returned."""
        return self._size_px

    def batches(self, requests: Iterable[Request]) -> Generator[Batch, None, None]:
        """Reads one batch for every request, in their order.

        The threads live as long as the generator: they end when it is exhausted, closed, or fails.

        Args:
            requests: epoch numbers and image numbers, int64 (n,) each, one pair a batch; taken as they are needed.

        Yields:
            Pixels uint8 (n, size, size, 3) and labels int64 (n,), in arrays that are the caller's to keep.

        Raises:
            UserError: an image that cannot be read, and has no substitute; at the batch that it belongs to.
        """
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix=THREAD_NAME)
        pending: deque[_Pending] = deque()
        try:
            for epochs, images in requests:
                pending.append(self._start(pool, epochs, images))
                if len(pending) > self._prefetch_batches:
                    yield self._finish(pending.popleft())
            while pending:
                yield self._finish(pending.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _start(self, pool: ThreadPoolExecutor, epochs: np.ndarray, images: np.ndarray) -> "_Pending":
        epochs, images = np.asarray(epochs, dtype=np.int64), np.asarray(images, dtype=np.int64)
        pixels = np.empty((len(images), self._size_px, self._size_px, 3), dtype=np.uint8)
        step = max(1, min(_IMAGES_PER_TASK, -(-len(images) // self._threads)))
        parts = [slice(start, start + step) for start in range(0, len(images), step)]
        draws, flips = self._draws(epochs, images)
        futures = [pool.submit(self._decode, images[part], draws[part], flips[part], pixels[part]) for part in parts]
        return _Pending(pixels, images, futures, step)

    def _draws(self, epochs: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of a whole batch at once, since numpy takes as long for a few: of crops, and which images are mirrored."""
        crop = self._crop
        if isinstance(crop, CentreCrop):
            return np.zeros((len(images), 0)), np.zeros(len(images), dtype=bool)
        flips = (
            flip_decisions(self._seed, epochs, images) if crop.horizontal_flip else np.zeros(len(images), dtype=bool)
        )
        return crop_draws(self._seed, epochs, images), flips

    def _finish(self, pending: "_Pending") -> Batch:
        """Waits for a batch's images, and puts substitutes in the place of those that cannot be read."""
        errors = {
            number * pending.images_per_task + index: error
            for number, future in enumerate(pending.futures)
            for index, error in future.result()
        }
        pixels, labels = pending.pixels, self._images.labels[pending.images]
        for index, error in errors.items():
            if self._substitution is None:
                raise error
            name = self._images.name(int(pending.images[index]))
            reason = _reason(name, error)
            first = index - index % self._substitution.per_worker
            of_worker = range(first, min(first + self._substitution.per_worker, len(labels)))
            after = [*range(index + 1, of_worker.stop), *range(first, index)]
            other = next((other for other in after if other not in errors), None)
            if other is None:
                raise UserError(
                    f"{name}: {reason}, nor can any other of the {len(of_worker)} images of its virtual worker; "
                    f"mend the data"
                ) from error
            pixels[index], labels[index] = pixels[other], labels[other]
            self._substitution.report(name, reason)
        return pixels, labels

    def _decode(
        self, images: np.ndarray, draws: np.ndarray, flips: np.ndarray, pixels: np.ndarray
    ) -> "list[tuple[int, UserError]]":
        """Decodes a few images into `pixels`, a view of the batch; returns which of them failed, if any may."""
        crop = self._crop
        full_quality = isinstance(crop, CentreCrop)
        errors = []
        for index, image in enumerate(images.tolist()):
            if isinstance(crop, Augmentation):
                choose_box = partial(_augmented_box, augmentation=crop, draws=draws[index])
            else:
                choose_box = partial(validation_box, resize_px=crop.resize_px, size_px=self._size_px)
            try:
                data, name = self._images.read(image), self._images.name(image)
                decode_crop(data, name, choose_box, self._size_px, bool(flips[index]), full_quality, pixels[index])
            except UserError as error:
                errors.append((index, error))
                if self._substitution is None:
                    break
        return errors


@dataclass(frozen=True)
class _Pending:
    """A batch in the making."""

    pixels: np.ndarray
    images: np.ndarray
    futures: "list[Future[list[tuple[int, UserError]]]]"
    images_per_task: int


def _augmented_box(width: int, height: int, augmentation: Augmentation, draws: np.ndarray) -> Box:
    return box_of_draws(width, height, augmentation, draws)


def _reason(name: str, error: UserError) -> str:
    """What an error says beside the image's name and the remedy."""
    return str(error).removeprefix(f"{name}: ").rsplit("; ", 1)[0]
