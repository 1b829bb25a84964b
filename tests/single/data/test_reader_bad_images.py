"""Images that cannot be read: their neighbour in the stream takes their place."""

import numpy as np
import pytest
from PIL import Image

from hvd_imagenet.data.listing import list_images
from hvd_imagenet.data.reader import Reader, Substitution
from hvd_imagenet.data.transforms import Augmentation, CentreCrop
from hvd_imagenet.errors import UserError

IMAGES = 24
PER_WORKER = 4


@pytest.fixture
def folder(tmp_path):
    values = np.random.RandomState(0).randint(0, 256, (IMAGES, 20, 24, 3), dtype=np.uint8)
    for index, pixels in enumerate(values):
        (tmp_path / f"class{index:02d}").mkdir()  # a class for each image: its label says which one is shown
        Image.fromarray(pixels).save(tmp_path / f"class{index:02d}" / f"{index:02d}.png")
    return tmp_path


def _damage(folder, *images):
    for image in images:
        path = folder / f"class{image:02d}" / f"{image:02d}.png"
        path.write_bytes(path.read_bytes()[:300])


def _read(folder, order, threads=2, batch=len, crop=None):
    """Pixels, labels and what was reported, of images in an order, in batches of a number of images."""
    reported = []
    reader = Reader(
        list_images(folder), crop or Augmentation(), 16, seed=3, threads=threads,
        substitution=Substitution(PER_WORKER, lambda name, reason: reported.append((name, reason))),
    )  # fmt: skip
    step = batch(order)
    requests = [
        (np.full(step, 5), np.array(order[start : start + step], dtype=np.int64))
        for start in range(0, len(order), step)
    ]
    batches = list(reader.batches(requests))
    pixels, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return pixels, labels.tolist(), reported


# By hand: the next one of the same four, cyclically; a bad one is passed over.
@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        ([], [0, 1, 2, 3, 4, 5, 6, 7]),
        ([0], [1, 1, 2, 3, 4, 5, 6, 7]),
        ([3], [0, 1, 2, 0, 4, 5, 6, 7]),  # not 4, which is another worker's
        ([4, 5], [0, 1, 2, 3, 6, 6, 6, 7]),
        ([6, 7], [0, 1, 2, 3, 4, 5, 4, 4]),
        ([0, 2, 3, 5], [1, 1, 1, 1, 4, 6, 6, 7]),
    ],
)
def test_the_next_one_of_the_same_worker_is_shown(folder, bad, shown):
    order = list(range(8))
    whole = _read(folder, order)[0]
    _damage(folder, *bad)
    pixels, labels, reported = _read(folder, order)
    assert labels == shown
    np.testing.assert_array_equal(pixels, whole[shown])
    listing = list_images(folder)
    assert [name for name, _ in reported] == [listing.name(image) for image in bad]
    assert all(reason.startswith("cannot be read as an image (") and ";" not in reason for _, reason in reported)


def test_it_depends_neither_on_threads_nor_on_how_workers_are_batched(folder):
    _damage(folder, 1, 7, 8, 9, 20, 23)
    order = np.random.RandomState(1).permutation(IMAGES).tolist()
    expected = _read(folder, order, threads=1)
    for threads in (1, 2, 8):
        for workers in (1, 2, 3):
            found = _read(folder, order, threads, lambda _, workers=workers: workers * PER_WORKER)
            np.testing.assert_array_equal(found[0], expected[0])
            assert found[1:] == expected[1:]


def test_files_that_are_gone_or_empty_are_replaced_too(folder):
    (folder / "class01" / "01.png").unlink()
    (folder / "class02" / "02.png").write_bytes(b"")
    listing = list_images  # as it was listed before
    (folder / "class01" / "01.png").touch()
    images = listing(folder)
    (folder / "class01" / "01.png").unlink()
    reported = []
    reader = Reader(
        images, CentreCrop(16), 16,
        substitution=Substitution(PER_WORKER, lambda name, reason: reported.append((name, reason))),
    )  # fmt: skip
    [(_, labels)] = reader.batches([(np.zeros(4, int), np.arange(4))])
    assert labels.tolist() == [0, 3, 3, 3]
    assert reported == [
        (f"{folder}/class01/01.png", "cannot be read (no such file)"),
        (f"{folder}/class02/02.png", "cannot be read as an image (unknown or damaged format)"),
    ]


def test_each_time_is_reported_when_its_batch_is_taken(folder):
    _damage(folder, 1)
    reported = []
    reader = Reader(
        list_images(folder), CentreCrop(16), 16, prefetch_batches=3,
        substitution=Substitution(PER_WORKER, lambda name, reason: reported.append(name[-6:])),
    )  # fmt: skip
    batches = reader.batches((np.zeros(4, int), np.array(ids)) for ids in ([4, 5, 6, 7], [0, 1, 2, 3], [1, 8, 9, 10]))
    assert [(next(batches)[1].tolist(), list(reported)) for _ in range(3)] == [
        ([4, 5, 6, 7], []),
        ([0, 2, 2, 3], ["01.png"]),
        ([8, 8, 9, 10], ["01.png", "01.png"]),
    ]


def test_a_worker_without_a_readable_image_stops_the_run(folder):
    _damage(folder, 4, 5, 6, 7)
    with pytest.raises(UserError) as caught:
        _read(folder, list(range(12)))
    assert str(caught.value).startswith(f"{folder}/class04/04.png: cannot be read as an image (")
    assert str(caught.value).endswith(", nor can any other of the 4 images of its virtual worker; mend the data")


def test_without_a_substitution_the_first_one_stops_the_run(folder):
    _damage(folder, 6, 2)
    with pytest.raises(UserError, match=r"/class02/02\.png: .*; replace the file or remove it$"):
        list(Reader(list_images(folder), CentreCrop(16), 16).batches([(np.zeros(8, int), np.arange(8))]))
