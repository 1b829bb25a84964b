"""JPEGs of every kind, made here, and what Pillow sees in them."""

import io
import random

import numpy as np
from PIL import Image


def photo(number=0, width=500, height=375):
    """Noise whose amplitude falls with the frequency, as in photographs, with edges of colour."""
    random_numbers = np.random.default_rng(number)
    across, down = np.fft.fftfreq(width), np.fft.fftfreq(height)[:, np.newaxis]
    frequency = np.maximum(np.hypot(across, down), 1 / max(width, height))[..., np.newaxis]
    noise = np.fft.fft2(random_numbers.standard_normal((height, width, 4)), axes=(0, 1))
    noise = np.fft.ifft2(noise / frequency**1.2, axes=(0, 1)).real
    noise /= noise.std()
    pixels = 128 + 45 * noise[..., :1] + 12 * noise[..., 1:]
    pixels[height // 4 : height // 2, width // 3 : width // 2] = random_numbers.integers(0, 256, 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 88, **options})
    return file.getvalue()


def by_pillow(data, box, size_px):
    x, y, width, height = box
    rgb = Image.open(io.BytesIO(data)).convert("RGB").crop((x, y, x + width, y + height))
    return np.asarray(rgb.resize((size_px, size_px), Image.Resampling.BILINEAR)).astype(int)


def _with_segment(data, marker, content):
    return data[:2] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content + data[2:]


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PHOTO = photo(1, 480, 360)
PLAIN = encoded(PHOTO)
THUMBNAIL = encoded(PHOTO.resize((64, 48)))
ODD = {
    "progressive": encoded(PHOTO, progressive=True),
    "grey": encoded(PHOTO.convert("L")),
    "grey progressive": encoded(PHOTO.convert("L"), progressive=True),
    "4:4:4": encoded(PHOTO, subsampling=0),
    "4:2:2": encoded(PHOTO, subsampling=1),
    "restart markers": encoded(PHOTO, restart_marker_blocks=3),
    "own Huffman tables": encoded(PHOTO, optimize=True),
    "EXIF orientation": encoded(PHOTO, exif=_turned()),
    "broken EXIF": _with_segment(PLAIN, 0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x1a\0\x05\0\0\0\x01"),
    "garbage for EXIF": _with_segment(PLAIN, 0xE1, b"Exif\0\0garbage"),
    "thumbnail in EXIF": _with_segment(PLAIN, 0xE1, b"Exif\0\0" + THUMBNAIL),
    "bytes behind the end": PLAIN + b"x" * 3000,
    "quality 5": encoded(PHOTO, quality=5),
    "quality 100": encoded(PHOTO, quality=100),
}


def _png():
    file = io.BytesIO()
    PHOTO.save(file, "PNG")
    return file.getvalue()


LEFT_TO_PILLOW = {"PNG": _png(), "CMYK": encoded(PHOTO.convert("CMYK")), "RGB": encoded(PHOTO, keep_rgb=True)}
UNREADABLE = {
    "empty": b"",
    "a start alone": b"\xff\xd8",
    "zeros": bytes(1000),
    "half a header": PLAIN[:300],
    "a header alone": PLAIN[:700],
    "a quarter": PLAIN[: len(PLAIN) // 4],
    "almost all": PLAIN[: len(PLAIN) * 9 // 10],
}


def crops(decoder, numbers):
    """Of many sizes, flips and boxes, each a function of its number."""
    for number in numbers:
        rng = random.Random(number)
        data = list(ODD.values())[number % len(ODD)]
        width, height = rng.uniform(1, 480), rng.uniform(1, 360)
        box = (rng.uniform(0, 480 - width), rng.uniform(0, 360 - height), width, height)
        square = decoder.crop(data, lambda *_, box=box: box, rng.choice([17, 32, 95, 224]), flip=rng.random() < 0.5)
        yield square.tobytes()
