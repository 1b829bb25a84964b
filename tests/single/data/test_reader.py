import math
import threading

import numpy as np
import pytest
from PIL import Image

from hvd_imagenet import control_groups
from hvd_imagenet.data.decode import decode_crop
from hvd_imagenet.data.listing import list_images
from hvd_imagenet.data.reader import THREAD_NAME, Reader, default_threads
from hvd_imagenet.data.transforms import Augmentation, CentreCrop, random_resized_crop_box, validation_box
from hvd_imagenet.errors import UserError

IMAGES = 40


@pytest.fixture(scope="module")
def listing(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    values = np.random.RandomState(0).randint(0, 256, (IMAGES, 30, 44, 3), dtype=np.uint8)
    for index, pixels in enumerate(values):
        folder = root / f"class{index % 4}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels[: 20 + index % 11]).save(folder / f"{index:02d}.{'png' if index % 2 else 'jpg'}")
    return list_images(root)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert _reader_threads() == []


def _reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def _requests(*batches, epoch=0):
    return [(np.full(len(batch), epoch), np.array(batch, dtype=np.int64)) for batch in batches]


def _read(reader, requests):
    return list(reader.batches(requests))


def test_batches_come_in_order_and_hold_what_decoding_one_by_one_gives(listing):
    reader = Reader(listing, Augmentation(), image_size_px=16, seed=5, threads=3)
    requests = _requests(range(20), [7, 3, 7], [], [39], epoch=2)
    batches = _read(reader, requests)
    assert [pixels.shape for pixels, _ in batches] == [(20, 16, 16, 3), (3, 16, 16, 3), (0, 16, 16, 3), (1, 16, 16, 3)]
    for (pixels, labels), (_, images) in zip(batches, requests, strict=True):
        assert pixels.dtype == np.uint8
        assert labels.dtype == np.int64
        assert (labels == listing.labels[images]).all()
        for shown, image in zip(pixels, images.tolist(), strict=True):

            def box(width, height, image=image):
                return random_resized_crop_box(width, height, Augmentation(), seed=5, epoch=2, image=image)

            either = [decode_crop(listing.read(image), "", box, 16, flip) for flip in (False, True)]
            assert any((shown == pixels).all() for pixels in either)


def test_pixels_do_not_depend_on_threads_prefetching_or_company(listing):
    requests = _requests(range(IMAGES), range(5, 20), epoch=1)
    reference = _read(Reader(listing, Augmentation(), 16, seed=1, threads=1, prefetch_batches=0), requests)
    for threads, prefetch_batches in ((2, 1), (8, 5)):
        reader = Reader(listing, Augmentation(), 16, seed=1, threads=threads, prefetch_batches=prefetch_batches)
        for (pixels, _), (wanted, _) in zip(_read(reader, requests), reference, strict=True):
            assert (pixels == wanted).all()
    [(alone, _)] = _read(Reader(listing, Augmentation(), 16, seed=1), _requests([17], epoch=1))
    assert (alone[0] == reference[0][0][17]).all()
    assert (alone[0] == reference[1][0][12]).all()


def test_epochs_and_seeds_change_the_training_images(listing):
    images = np.zeros(30, dtype=np.int64)
    [(pixels, _)] = _read(Reader(listing, Augmentation(), 16, seed=1), [(np.arange(30), images)])
    assert len(np.unique(pixels, axis=0)) == 30
    [(other, _)] = _read(Reader(listing, Augmentation(), 16, seed=2), [(np.arange(30), images)])
    assert not (pixels == other).all(axis=(1, 2, 3)).any()


def test_flips_happen_only_where_they_are_wanted(listing):
    whole = {"area_range": (1.0, 1.0), "aspect_range": (2.0, 2.0)}  # never fits: always the same central box
    requests = [(np.arange(100), np.zeros(100, dtype=np.int64))]
    [(never, _)] = _read(Reader(listing, Augmentation(**whole, horizontal_flip=False), 16, seed=1), requests)
    [(often, _)] = _read(Reader(listing, Augmentation(**whole, horizontal_flip=True), 16, seed=1), requests)
    assert (never == never[0]).all()
    mirrored = (often == never[0][:, ::-1]).all(axis=(1, 2, 3))
    assert ((often == never[0]).all(axis=(1, 2, 3)) ^ mirrored).all()
    assert 30 < mirrored.sum() < 70


def test_validation_images_are_the_centre_whatever_seed_and_epoch(listing):
    requests = _requests(range(IMAGES))
    [(pixels, _)] = _read(Reader(listing, CentreCrop(20), 16, seed=1), requests)
    [(other, _)] = _read(Reader(listing, CentreCrop(20), 16, seed=2, threads=2), _requests(range(IMAGES), epoch=9))
    assert (pixels == other).all()

    def box(width, height):
        return validation_box(width, height, 20, 16)

    wanted = decode_crop(listing.read(3), "", box, 16, full_quality=True)
    assert (pixels[3] == wanted).all()


def test_reading_ahead_is_bounded(listing):
    taken = []

    def requests():
        for number in range(20):
            taken.append(number)
            yield _requests([number])[0]

    batches = Reader(listing, CentreCrop(16), 16, threads=2, prefetch_batches=3).batches(requests())
    assert taken == []
    for consumed in range(1, 21):
        next(batches)
        assert len(taken) == min(consumed + 3, 20)
    assert next(batches, None) is None


def test_threads_end_when_the_consumer_stops_early(listing):
    batches = Reader(listing, CentreCrop(16), 16, threads=2).batches(_requests(*[range(IMAGES)] * 50))
    next(batches)
    assert _reader_threads()
    batches.close()
    assert _reader_threads() == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_threads_end_when_the_consumer_fails(listing, interruption):
    def train():
        for _ in Reader(listing, CentreCrop(16), 16, threads=2).batches(_requests(*[range(IMAGES)] * 50)):
            raise interruption

    with pytest.raises(interruption):
        train()


def test_failing_requests_reach_the_consumer(listing):
    def requests():
        yield from _requests([1], [2])
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        _read(Reader(listing, CentreCrop(16), 16, threads=2), requests())


@pytest.mark.parametrize("threads", [1, 4])
def test_unreadable_image_reaches_the_consumer_in_its_turn(tmp_path, threads):
    (tmp_path / "c").mkdir()
    for index in range(30):
        Image.new("L", (20, 20)).save(tmp_path / "c" / f"{index:02d}.png")
    (tmp_path / "c" / "25.png").write_bytes(b"broken")
    batches = Reader(list_images(tmp_path), CentreCrop(16), 16, threads=threads).batches(
        _requests(range(10), range(10, 20), range(20, 30), range(10))
    )
    assert [len(next(batches)[1]) for _ in range(2)] == [10, 10]
    with pytest.raises(UserError, match=r"/c/25\.png: cannot be read as an image"):
        next(batches)
    assert _reader_threads() == []


def test_default_threads_are_the_cores_of_this_process(monkeypatch):
    for cores, quota, threads in ((1, math.inf, 1), (5, math.inf, 5), (64, math.inf, 8), (64, 2.5, 2), (64, 0.5, 1)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        monkeypatch.setattr(control_groups, "cpus", lambda quota=quota: quota)
        assert default_threads() == threads


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size_px": 0}, "image_size_px must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"prefetch_batches": -1}, "prefetch_batches must be at least 0, got -1"),
        ({"image_size_px": 32}, "resize_px must be at least image_size_px (32), got 16"),
    ],
)
def test_bad_arguments(listing, arguments, message):
    with pytest.raises(ValueError) as error:
        Reader(listing, CentreCrop(16), **{"image_size_px": 16, **arguments})
    assert str(error.value) == message
