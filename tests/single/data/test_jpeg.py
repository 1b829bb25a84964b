"""The partial decoding of JPEGs, against Pillow's full one."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from odd_jpegs import LEFT_TO_PILLOW, ODD, PLAIN, UNREADABLE, by_pillow, crops, encoded, photo
from PIL import Image

from hvd_imagenet.data import jpeg
from hvd_imagenet.data.decode import decode_crop
from hvd_imagenet.data.jpeg import PartialDecoder, partial_decoder
from hvd_imagenet.data.transforms import Augmentation, random_resized_crop_box
from hvd_imagenet.errors import UserError


@pytest.fixture(scope="module")
def decoder() -> PartialDecoder:
    found = partial_decoder()
    assert isinstance(found, PartialDecoder), found
    return found


def difference(data, box, size_px, decoder):
    shown = decoder.crop(data, lambda *_: box, size_px)
    assert shown is not None
    return float(np.abs(shown - by_pillow(data, box, size_px)).mean())


def test_a_batch_is_what_pillow_makes_of_the_whole_image(decoder):
    """The figure of the README: mean absolute difference, values from 0 to 255."""
    differences = []
    for number in range(16):
        data = encoded(photo(number))
        box = random_resized_crop_box(500, 375, Augmentation(), 1, 0, number)
        differences.append(difference(data, box, 224, decoder))
    assert np.mean(differences) < 0.5
    assert max(differences) < 0.7


@pytest.mark.parametrize("box", [(0, 0, 1200, 900), (100, 50, 1000, 800), (333, 77, 500, 460)])
def test_reduced_decoding_is_what_pillow_makes_of_the_whole_image(decoder, box):
    data = encoded(photo(3, 1200, 900))
    assert jpeg.reduction(box[2], box[3], 112) in (4, 8)
    assert difference(data, box, 112, decoder) < 2.5


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("box", [(0, 0, 480, 360), (120, 0, 240, 120), (161, 179, 160, 181), (479, 359, 1, 1)])
def test_odd_jpegs_are_read(decoder, name, box):
    assert difference(ODD[name], box, 96, decoder) < 2.0


def test_orientation_is_ignored(decoder):
    boxes = [decoder.crop(data, lambda *size: (0, 0, *size), 96) for data in (ODD["EXIF orientation"], PLAIN)]
    assert (boxes[0] == boxes[1]).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3), (7, 9), (17, 33), (6000, 40), (40, 6000)])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}])
def test_thin_tiny_and_long_images(decoder, size, options):
    data = encoded(Image.new("RGB", size, (200, 100, 50)), **options)
    for size_px in (1, 8, 33, 224):
        shown = decoder.crop(data, lambda width, height: (0, 0, width, height), size_px)
        if shown is None:  # more than the filter takes
            assert max(size) > 30 * size_px
            shown = decode_crop(data, "", lambda width, height: (0, 0, width, height), size_px)
        assert np.abs(shown.astype(int) - (200, 100, 50)).max() <= 2


def test_a_very_large_image(decoder):
    data = encoded(photo(2, 400, 300).resize((6000, 4500)), quality=60)
    for box in [(0, 0, 6000, 4500), (3000, 2000, 900, 800), (5990, 4490, 10, 10)]:
        assert difference(data, box, 224, decoder) < 1.0


@pytest.mark.parametrize("name", LEFT_TO_PILLOW)
def test_what_is_left_to_pillow(decoder, name):
    data, box = LEFT_TO_PILLOW[name], (120, 90, 240, 180)
    assert decoder.crop(data, lambda *_: box, 96) is None
    assert np.abs(decode_crop(data, "a.JPEG", lambda *_: box, 96) - by_pillow(data, box, 96)).max() == 0


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_files_are_named_wherever_the_crop_is(decoder, name):
    def top(width, height):
        return (0, 0, width, height // 8)

    assert decoder.crop(UNREADABLE[name], top, 96) is None
    with pytest.raises(UserError, match=r"^a\.JPEG: cannot be read as an image \(.+\); replace the file or remove it$"):
        decode_crop(UNREADABLE[name], "a.JPEG", top, 96)


def test_a_file_without_its_end_marker_is_left_to_pillow(decoder):
    assert decoder.crop(PLAIN[:-2], lambda *_: (0, 0, 100, 100), 96) is None


def test_rows_below_the_crop_are_not_read(decoder):
    def box(width, height):
        return (10, 20, 300, 100)

    at = len(PLAIN) * 3 // 4
    damaged = PLAIN[:at] + b"\xff\xd8" * 100 + PLAIN[at + 200 :]
    assert (decoder.crop(damaged, box, 96) == decoder.crop(PLAIN, box, 96)).all()
    assert decoder.crop(damaged, lambda *size: (0, 0, *size), 96) is None


def test_too_many_pixels_are_left_to_pillow(decoder, monkeypatch):
    monkeypatch.setattr(jpeg, "_MOST_PIXELS", 480 * 360 - 1)
    assert decoder.crop(PLAIN, lambda *_: (0, 0, 10, 10), 8) is None


def test_flip_and_out(decoder):
    def box(width, height):
        return (33, 11, 250, 301)

    out = np.full((61, 61, 3), 7, np.uint8)
    plain = decoder.crop(PLAIN, box, 61)
    assert decoder.crop(memoryview(PLAIN), box, 61, flip=True, out=out) is out
    assert (out[:, ::-1] == plain).all()
    assert decode_crop(PLAIN, "", box, 61, out=out) is out
    assert (out == plain).all()
    assert decode_crop(PLAIN, "", box, 61, flip=True, full_quality=True, out=out) is out
    assert (out == decode_crop(PLAIN, "", box, 61, full_quality=True)[:, ::-1]).all()


def test_a_box_outside_of_the_image_is_refused(decoder):
    for box in [(-1, 0, 10, 10), (480, 0, 1, 1), (0, 0, 0, 10), (0, float("nan"), 10, 10)]:
        assert decoder.crop(PLAIN, lambda *_, box=box: box, 8) is None


def test_an_image_has_nothing_of_the_one_before(decoder):
    """Motion JPEG leaves out the standard Huffman tables; another image's must not be taken for them."""
    bare, at = bytearray(PLAIN), 0
    while (at := bare.find(b"\xff\xc4")) >= 0:
        del bare[at : at + 2 + int.from_bytes(bare[at + 2 : at + 4], "big")]
    for before in (ODD["own Huffman tables"], PLAIN):
        decoder.crop(before, lambda *size: (0, 0, *size), 96)
        shown = decoder.crop(bytes(bare), lambda *size: (0, 0, *size), 96)
        assert (shown == decoder.crop(PLAIN, lambda *size: (0, 0, *size), 96)).all()


def test_threads_change_nothing(decoder):
    alone = list(crops(decoder, range(80)))
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda number: next(crops(decoder, [number])), range(80)))
    assert together == alone


def _damaged(number):
    rng = random.Random(number)
    data = bytearray(rng.choice([PLAIN, *ODD.values()]))
    for _ in range(rng.choice([1, 1, 5, 30])):
        data[rng.randrange(2, len(data) if rng.random() < 0.5 else 700)] = rng.randrange(256)
    return bytes(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data)


def test_damaged_files_are_refused_or_read_the_same_every_time(decoder):
    refused = 0
    for number in range(400):
        data, rng = _damaged(number), random.Random(number)

        def choose_box(width, height, rng=rng):
            box_width, box_height = rng.randint(1, width), rng.randint(1, height)
            return rng.randint(0, width - box_width), rng.randint(0, height - box_height), box_width, box_height

        seen = []
        for fill in (0, 255):
            rng.seed(number)
            seen.append(decoder.crop(data, choose_box, 40, out=np.full((40, 40, 3), fill, np.uint8)))
        refused += seen[0] is None
        assert (seen[0] is None) == (seen[1] is None)
        assert seen[0] is None or (seen[0] == seen[1]).all()
    assert 100 < refused < 300
