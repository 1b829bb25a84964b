import threading
import time

import numpy as np
import pytest

from hvd_imagenet.data.reader import THREAD_NAME
from hvd_imagenet.data.synthetic import SyntheticImages, SyntheticReader, synthetic_dataset
from hvd_imagenet.errors import UserError


def _requests(*lengths):
    return [(np.zeros(length, dtype=np.int64), np.arange(length) + 990) for length in lengths]


def test_it_is_as_large_as_imagenet():
    train, validation = synthetic_dataset()
    assert (len(train), len(validation)) == (1_281_167, 1_000)
    assert len(train.classes) == len(validation.classes) == len(set(train.classes)) == 1_000
    assert np.bincount(train.labels).tolist() == [1282] * 167 + [1281] * 833
    assert validation.labels.tolist() == list(range(1000))
    assert train.fingerprint() == validation.fingerprint() == "synthetic"


def test_pixels_are_random_bytes_and_labels_those_of_the_images():
    reader = SyntheticReader(SyntheticImages(2000), image_size_px=24, seed=4)
    batches = list(reader.batches(_requests(32, 0, 20)))
    assert [pixels.shape for pixels, _ in batches] == [(32, 24, 24, 3), (0, 24, 24, 3), (20, 24, 24, 3)]
    pixels, labels = batches[0]
    assert (pixels.dtype, labels.dtype) == (np.uint8, np.int64)
    assert labels.tolist() == [*range(990, 1000), *range(22)]
    assert 120 < pixels.mean() < 135
    assert (pixels.min(), pixels.max()) == (0, 255)
    np.testing.assert_array_equal(batches[2][0], pixels[:20])
    again = SyntheticReader(SyntheticImages(2000), image_size_px=24, seed=4)
    np.testing.assert_array_equal(next(again.batches(_requests(32)))[0], pixels)


def test_batches_cost_nothing_and_no_thread():
    reader = SyntheticReader(SyntheticImages(2000), image_size_px=224)
    batches = reader.batches(_requests(*[64] * 1001))
    first = next(batches)[0]
    started_s = time.perf_counter()
    shared = [np.shares_memory(first, pixels) for pixels, _ in batches]
    assert time.perf_counter() - started_s < 1.0  # measured: 5 ms for 1,000 batches
    assert all(shared)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def test_there_are_no_files():
    message = "^synthetic image 3: synthetic images have no files; read them with SyntheticReader$"
    with pytest.raises(UserError, match=message):
        SyntheticImages(5).read(3)
