import io

import numpy as np
import pytest
from PIL import Image

from hvd_imagenet.data.shrinking import shrink
from hvd_imagenet.errors import UserError


def _encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _ramp(mode, width, height):
    """Brighter to the right: what a conversion loses is seen in the mean of each half."""
    row = np.linspace(0, 255, width)
    grey = np.broadcast_to(row, (height, width)).astype(np.uint8)
    return Image.fromarray(grey).convert(mode)


def _shrunk(data, max_side_px=100):
    image = Image.open(io.BytesIO(shrink(data, "d/x.JPEG", max_side_px, 90)))
    image.load()
    return image


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((500, 375), (100, 75)),
        ((375, 500), (75, 100)),
        ((101, 1), (100, 1)),
        ((2000, 3), (100, 1)),
        ((1, 900), (1, 100)),
    ],
)
def test_the_longer_side_becomes_the_limit_and_neither_vanishes(size, expected):
    image = _shrunk(_encoded(_ramp("RGB", *size)))
    assert (image.size, image.mode, image.format) == (expected, "RGB", "JPEG")


@pytest.mark.parametrize("size", [(100, 75), (100, 100), (1, 100), (7, 5)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_is_not_larger_stays_byte_for_byte(size, kind):
    data = _encoded(_ramp("L", *size), kind)
    assert shrink(data, "d/x.JPEG", 100, 90) is data


@pytest.mark.parametrize(
    "data",
    [
        _encoded(_ramp("RGB", 400, 300)),
        _encoded(_ramp("L", 400, 300)),
        _encoded(_ramp("CMYK", 400, 300)),
        _encoded(_ramp("RGB", 400, 300), "PNG"),
        _encoded(_ramp("RGBA", 400, 300), "PNG"),
        _encoded(_ramp("P", 400, 300), "PNG"),
        _encoded(Image.fromarray(np.asarray(_ramp("L", 400, 300)).astype(np.uint16) * 257), "PNG"),
    ],
    ids=["rgb", "grey", "cmyk", "png", "png with transparency", "png with palette", "16-bit png"],
)
def test_every_kind_of_image_keeps_its_brightness(data):
    pixels = np.asarray(_shrunk(data)).astype(float)
    assert pixels.shape == (75, 100, 3)
    np.testing.assert_allclose(pixels, np.broadcast_to(np.linspace(0, 255, 100)[:, None], pixels.shape), atol=6)


def test_chroma_has_a_quarter_of_the_samples():
    image = _shrunk(_encoded(_ramp("RGB", 400, 300), subsampling="4:4:4"))
    assert [component[1:3] for component in image.layer] == [(2, 2), (1, 1), (1, 1)]


def test_quality_is_libjpeg_s():
    data = _encoded(Image.effect_noise((300, 200), 60).convert("RGB"))
    tables = [Image.open(io.BytesIO(shrink(data, "", 100, quality))).quantization for quality in (75, 90)]
    expected = [Image.open(io.BytesIO(_encoded(Image.new("RGB", (8, 8)), quality=q))).quantization for q in (75, 90)]
    assert tables == expected


def test_fine_stripes_become_grey_and_no_moire():
    stripes = np.zeros((300, 420, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = np.asarray(_shrunk(_encoded(Image.fromarray(stripes), "PNG"), 200)).astype(float)
    assert abs(pixels - 127.5).max() < 30


def test_exif_orientation_is_neither_used_nor_kept():
    image = _ramp("RGB", 400, 300)
    image.getexif()[0x0112] = 6
    shrunk = _shrunk(_encoded(image, exif=image.getexif()))
    assert (shrunk.size, dict(shrunk.getexif())) == ((100, 75), {})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unknown or damaged format"),
        (b"no image", "unknown or damaged format"),
        (_encoded(Image.effect_noise((400, 300), 60))[:-5000], "image file is truncated"),
    ],
)
def test_what_cannot_be_decoded_stops_with_its_path(data, reason):
    with pytest.raises(UserError) as caught:
        shrink(data, "d/x.JPEG", 100, 90)
    assert str(caught.value).startswith(f"d/x.JPEG: cannot be read as an image ({reason}")
    assert "\n" not in str(caught.value)
