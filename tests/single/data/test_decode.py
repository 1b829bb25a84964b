import io
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvd_imagenet.data import decode
from hvd_imagenet.errors import UserError


def decode_crop(path, *arguments, **options):
    return decode.decode_crop(Path(path).read_bytes(), str(path), *arguments, **options)


@pytest.fixture(params=["partial", "pillow"])
def way(request, monkeypatch):
    """Both decoders of training crops."""
    if request.param == "pillow":
        monkeypatch.setattr(decode, "partial_decoder", lambda: "not here")
    return request.param


def whole(width, height):
    return (0, 0, width, height)


def _pattern(width=60, height=40, channels=3):
    y, x, c = np.mgrid[:height, :width, :channels]
    return (127 + 60 * np.sin(x / 5 + c) + 60 * np.cos(y / 4 - c)).astype(np.uint8)


def _resized(pixels, box, size_px, around):
    """Bilinear resize of a box with a triangle filter as wide as the reduction, in plain numpy."""

    def weights(length, start, extent):
        scale = extent / size_px
        centres = start + (np.arange(size_px) + 0.5) * scale
        table = np.clip(1 - np.abs(np.arange(length) + 0.5 - centres[:, np.newaxis]) / max(scale, 1), 0, None)
        if not around:
            table[:, : math.floor(start)] = table[:, math.ceil(start + extent) :] = 0
        return table / table.sum(axis=1, keepdims=True)

    x, y, width, height = box
    down, across = weights(pixels.shape[0], y, height), weights(pixels.shape[1], x, width)
    return np.einsum("ij,jkc,lk->ilc", down, pixels.astype(float), across)


@pytest.mark.parametrize("box", [(0, 0, 60, 40), (7, 3, 31, 30), (10.5, 2.25, 8.5, 9.75), (59, 39, 1, 1)])
@pytest.mark.parametrize("full_quality", [False, True])
def test_resize_of_a_box_is_the_triangle_filter(tmp_path, box, full_quality):
    pixels = _pattern()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shown = decode_crop(str(tmp_path / "a.png"), lambda width, height: box, 12, full_quality=full_quality)
    assert shown.dtype == np.uint8
    assert shown.shape == (12, 12, 3)
    assert np.abs(shown - _resized(pixels, box, 12, around=full_quality)).max() < 1.5  # two roundings to whole levels


def test_box_is_chosen_from_the_images_size(tmp_path):
    Image.new("RGB", (31, 17)).save(tmp_path / "a.png")
    seen = []
    decode_crop(str(tmp_path / "a.png"), lambda *size: seen.append(size) or (0, 0, 1, 1), 4)
    assert seen == [(31, 17)]


def test_flip_mirrors_left_and_right(tmp_path):
    Image.fromarray(_pattern()).save(tmp_path / "a.png")
    plain = decode_crop(str(tmp_path / "a.png"), whole, 9)
    assert (decode_crop(str(tmp_path / "a.png"), whole, 9, flip=True) == plain[:, ::-1]).all()
    assert (plain != plain[:, ::-1]).any()


def _uniform_image(mode):
    if mode == "P-transparent":
        image = Image.new("P", (5, 5), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        image.info["transparency"] = b"\x00\x80"
        return image
    if mode == "P":
        image = Image.new("P", (5, 5), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        return image
    if mode == "I;16":
        return Image.fromarray(np.full((5, 5), 0x8040, dtype=np.uint16))
    fill = {"1": 1, "L": 77, "LA": (77, 9), "RGB": (10, 20, 30), "RGBA": (10, 20, 30, 40)}[mode]
    return Image.new(mode, (5, 5), fill)


@pytest.mark.parametrize(
    ("mode", "rgb"),
    [
        ("1", (255, 255, 255)),
        ("L", (77, 77, 77)),
        ("LA", (77, 77, 77)),
        ("RGB", (10, 20, 30)),
        ("RGBA", (10, 20, 30)),
        ("P", (10, 20, 30)),
        ("P-transparent", (10, 20, 30)),
        ("I;16", (0x80, 0x80, 0x80)),
    ],
)
@pytest.mark.filterwarnings("error")
def test_png_modes_become_rgb(tmp_path, mode, rgb):
    # ImageNet holds a PNG named .JPEG.
    _uniform_image(mode).save(tmp_path / "a.JPEG", "PNG")
    assert (decode_crop(str(tmp_path / "a.JPEG"), whole, 3) == rgb).all()


@pytest.mark.parametrize(
    ("mode", "fill", "rgb"),
    [("L", 77, (77, 77, 77)), ("RGB", (90, 100, 110), (90, 100, 110)), ("CMYK", (0, 255, 255, 0), (255, 0, 0))],
)
def test_jpeg_modes_become_rgb(tmp_path, way, mode, fill, rgb):
    Image.new(mode, (64, 64), fill).save(tmp_path / "a.jpg", quality=95)
    for size_px in (3, 64):  # 3 takes the reduced decoding
        shown = decode_crop(str(tmp_path / "a.jpg"), whole, size_px)
        assert np.abs(shown.astype(int) - rgb).max() <= 2


@pytest.mark.parametrize("size", [(1, 50), (50, 1), (1, 1), (2, 300)])
@pytest.mark.parametrize("ending", ["JPEG", "PNG"])
def test_thin_images(tmp_path, way, size, ending):
    Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "a", ending)
    assert np.abs(decode_crop(str(tmp_path / "a"), whole, 8).astype(int) - (200, 100, 50)).max() <= 2


def test_exif_orientation_is_ignored(tmp_path, way):
    image = Image.fromarray(_pattern(48, 48))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "plain.jpg")
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert (
        decode_crop(str(tmp_path / "turned.jpg"), whole, 48) == decode_crop(str(tmp_path / "plain.jpg"), whole, 48)
    ).all()


def test_broken_exif_is_read_in_silence(tmp_path):
    # A block that says it has 255 entries and ends within the first.
    Image.fromarray(_pattern()).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x1a\0\x05\0\0\0\x01")
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):  # pytest undoes the filter that is under test
        decode_crop(str(tmp_path / "a.jpg"), whole, 8, full_quality=True)
    program = (
        "import sys; from hvd_imagenet.data.decode import decode_crop\n"
        "print(decode_crop(open(sys.argv[1], 'rb').read(), sys.argv[1], lambda *size: (0, 0, *size), 8).shape)"
    )
    for choice in ("", "pillow"):
        environment = {**os.environ, "HVD_IMAGENET_DECODER": choice}
        command = [sys.executable, "-c", program, str(tmp_path / "a.jpg")]
        told = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert (told.stdout, told.stderr) == ("(8, 8, 3)\n", "")


@pytest.mark.parametrize("size", [(1021, 767), (1024, 768)])
@pytest.mark.parametrize("box", [(0, 0, None, None), (301, 203, 450, 400), (1, 2, 260, 301), (100, 60, 920, 700)])
def test_reduced_decoding_keeps_the_boxes_place(tmp_path, monkeypatch, way, size, box):
    y, x = np.mgrid[: size[1], : size[0]]
    # The steepest slope is 100 x 2 pi / 96 = 6.5 levels a pixel, so a shift by half a pixel would show.
    wave = 127 + 50 * np.sin(2 * np.pi * x / 96) + 50 * np.sin(2 * np.pi * y / 96)
    Image.fromarray(wave.astype(np.uint8)).save(tmp_path / "a.jpg", quality=98)
    box = (box[0], box[1], box[2] or size[0], box[3] or size[1])
    path = str(tmp_path / "a.jpg")
    reduced = decode_crop(path, lambda *_: box, 64)
    for module in ("decode", "jpeg"):
        monkeypatch.setattr(f"hvd_imagenet.data.{module}.reduction", lambda *_: 1)
    full = decode_crop(path, lambda *_: box, 64)
    assert (reduced != full).any()
    assert np.abs(reduced.astype(int) - full).max() <= 5
    assert abs((reduced.astype(int) - full).mean()) < 0.5


@pytest.mark.parametrize(("box", "full_quality"), [((0, 0, 100, 63), False), ((0, 0, 100, 100), True)])
def test_small_crops_and_validation_images_are_not_decoded_reduced(tmp_path, monkeypatch, box, full_quality):
    Image.fromarray(_pattern(100, 100)).save(tmp_path / "a.jpg")
    monkeypatch.setattr(decode, "partial_decoder", lambda: "not here")
    monkeypatch.setattr(Image.Image, "draft", None)
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", None)
    assert decode_crop(str(tmp_path / "a.jpg"), lambda *_: box, 32, full_quality=full_quality).shape == (32, 32, 3)


def test_validation_images_are_pillows(tmp_path):
    """Decoded in full, whatever the reduction: Pillow's resize of the box, bit by bit."""
    image = Image.fromarray(_pattern(1021, 767))
    image.save(tmp_path / "a.jpg")
    box = (100.5, 60.25, 600.5, 560.25)
    shown = decode_crop(tmp_path / "a.jpg", lambda *_: (100.5, 60.25, 500, 500), 64, full_quality=True)
    with Image.open(tmp_path / "a.jpg") as file:
        assert (shown == np.asarray(file.resize((64, 64), Image.Resampling.BILINEAR, box=box))).all()


def _jpeg_bytes():
    file = io.BytesIO()
    Image.fromarray(_pattern(200, 200)).save(file, "JPEG")
    return file.getvalue()


def _png_bytes():
    file = io.BytesIO()
    Image.fromarray(_pattern(200, 200)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unknown or damaged format"),
        (b"not an image", "unknown or damaged format"),
        (_jpeg_bytes()[:20], "unknown or damaged format"),
        (_jpeg_bytes()[:2000], "image file is truncated"),
        (_png_bytes()[:2000], "image file is truncated"),
    ],
)
def test_unreadable_file_is_named(tmp_path, way, content, reason):
    path = tmp_path / "a.JPEG"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        decode_crop(str(path), whole, 8)
    message = str(error.value)
    assert message.startswith(f"{path}: cannot be read as an image ({reason}")
    assert message.endswith("; replace the file or remove it")
    assert "\n" not in message
