"""The reader's memory, threads and order, whatever the images do."""

import gc
import os
import random
import signal
import threading
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from hvd_imagenet.data.listing import list_images
from hvd_imagenet.data.reader import THREAD_NAME, Reader
from hvd_imagenet.data.transforms import Augmentation, CentreCrop

IMAGES, SIZE_PX, BATCH = 48, 64, 16
BATCH_BYTES = BATCH * SIZE_PX**2 * 3


@pytest.fixture(scope="module")
def listing(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    values = np.random.RandomState(0).randint(0, 256, (IMAGES, 70, 90, 3), dtype=np.uint8)
    (root / "c").mkdir()
    for index, pixels in enumerate(values):
        Image.fromarray(pixels).save(root / "c" / f"{index:02d}.jpg")
    return list_images(root)


class Slowly:
    """Images that are read after a while, each call another."""

    def __init__(self, listing, before_read):
        self._listing, self._before_read = listing, before_read
        self.labels, self.name = listing.labels, listing.name

    def read(self, image):
        self._before_read(image)
        return self._listing.read(image)


def _requests(batches):
    return ((np.full(BATCH, t), np.arange(t * BATCH, (t + 1) * BATCH) % IMAGES) for t in range(batches))


def _reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def test_the_order_in_which_images_are_done_does_not_matter(listing):
    expected = list(Reader(listing, Augmentation(), SIZE_PX, seed=1, threads=1).batches(_requests(5)))
    for threads in (1, 2, 8):
        draw = random.Random(threads)
        images = Slowly(listing, lambda image, draw=draw: time.sleep(draw.choice([0, 0, 0, 0.004])))
        reader = Reader(images, Augmentation(), SIZE_PX, seed=1, threads=threads, prefetch_batches=4)
        for (pixels, labels), (of_one, labels_of_one) in zip(reader.batches(_requests(5)), expected, strict=True):
            np.testing.assert_array_equal(pixels, of_one)
            np.testing.assert_array_equal(labels, labels_of_one)


@pytest.mark.parametrize("prefetch_batches", [0, 2, 5])
def test_memory_is_that_of_a_few_batches_however_many_are_read(listing, prefetch_batches):
    def peak_bytes(batches):
        reader = Reader(listing, Augmentation(), SIZE_PX, threads=2, prefetch_batches=prefetch_batches)
        tracemalloc.start()
        try:
            for _pixels, _ in reader.batches(_requests(batches)):
                time.sleep(0.002)  # slower than the reader: what is not bounded grows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_bytes(2)  # modules and caches
    few, many = peak_bytes(12), peak_bytes(60)
    other = 600_000  # two encoded files and small objects
    assert (prefetch_batches + 1) * BATCH_BYTES < few < (prefetch_batches + 2) * BATCH_BYTES + other
    assert many < few + 1.5 * BATCH_BYTES


def test_a_failure_of_a_thread_comes_at_the_batch_that_it_belongs_to(listing):
    def fail(image):
        if image == 2 * BATCH + 3:
            raise RuntimeError("the disk is gone")

    batches = Reader(Slowly(listing, fail), CentreCrop(64), SIZE_PX, threads=4, prefetch_batches=5).batches(
        _requests(3)
    )
    assert [len(next(batches)[1]) for _ in range(2)] == [BATCH, BATCH]
    with pytest.raises(RuntimeError, match="the disk is gone"):
        next(batches)
    assert _reader_threads() == []
    assert next(batches, None) is None


def test_an_interrupt_while_a_batch_is_waited_for_ends_the_threads(listing):
    main = threading.main_thread().ident

    def interrupt(image):
        if image == 1:
            time.sleep(0.1)
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.1)

    batches = Reader(Slowly(listing, interrupt), CentreCrop(64), SIZE_PX, threads=2).batches(_requests(50))
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    assert _reader_threads() == []


def test_a_generator_that_is_dropped_ends_its_threads(listing):
    def take_one():
        batches = Reader(listing, CentreCrop(64), SIZE_PX, threads=3).batches(_requests(50))
        next(batches)
        assert len(_reader_threads()) == 3

    take_one()
    gc.collect()
    assert _reader_threads() == []


def test_a_generator_that_is_not_begun_has_no_threads(listing):
    batches = Reader(listing, CentreCrop(64), SIZE_PX, threads=3).batches(_requests(50))
    assert _reader_threads() == []
    batches.close()
    assert next(batches, None) is None


def test_files_are_closed(listing):
    before = len(os.listdir("/proc/self/fd"))
    list(Reader(listing, CentreCrop(64), SIZE_PX, threads=3).batches(_requests(6)))
    assert len(os.listdir("/proc/self/fd")) == before
