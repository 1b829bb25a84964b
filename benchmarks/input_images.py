"""JPEGs as large as ImageNet's: 500 x 375 pixels, 55 kB, two thirds of them from photographs."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

WIDTH, HEIGHT = 500, 375
BYTES, BYTES_SPREAD = 55_000, 8_000


def make(folder: Path, count: int) -> list[Path]:
    """Class folders under folder/train and folder/val; the paths of the training images."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    made = []
    for number in range(count):
        image = texture(rng) if number % 3 == 2 else cutting(photographs[number % 2], rng)
        data = encoded(image, rng.normal(BYTES, BYTES_SPREAD))
        for split in ("train", "val") if number < 2 else ("train",):
            path = folder / split / f"class{number % 2}" / f"{number:04d}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        made.append(folder / "train" / f"class{number % 2}" / f"{number:04d}.JPEG")
    return made


def cutting(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A part of a photograph, with a sensor's noise."""
    width = int(rng.integers(300, 501))
    height = width * HEIGHT // WIDTH
    x, y = rng.integers(0, photograph.width - width + 1), rng.integers(0, photograph.height - height + 1)
    image = photograph.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=(x, y, x + width, y + height))
    noise = rng.normal(0, 3, (HEIGHT, WIDTH, 1))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def texture(rng: np.random.Generator) -> Image.Image:
    """Noise whose amplitude falls with the frequency, as photographs' does, weaker in colour; and shapes on it."""
    frequency = np.hypot(np.fft.fftfreq(WIDTH), np.fft.fftfreq(HEIGHT)[:, np.newaxis])[..., np.newaxis]
    frequency[0, 0] = 1
    noise = np.fft.fft2(rng.standard_normal((HEIGHT, WIDTH, 4)), axes=(0, 1)) / frequency ** rng.uniform(1, 1.4)
    noise = np.fft.ifft2(noise, axes=(0, 1)).real
    noise /= noise.std(axis=(0, 1))
    image = Image.fromarray(np.clip(128 + 50 * noise[..., :1] + 15 * noise[..., 1:], 0, 255).astype(np.uint8))
    for _ in range(rng.integers(3, 10)):
        x, y, side = (int(rng.integers(low, high)) for low, high in ((0, 450), (0, 330), (15, 110)))
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        draw = ImageDraw.Draw(image)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + side, y + side), outline=colour, fill=colour if rng.random() < 0.5 else None, width=3)
    return image


def encoded(image: Image.Image, wanted_bytes: float) -> bytes:
    """4:2:0, of the quality that comes nearest to a size."""
    best, low, high = b"", 30, 98
    while low <= high:
        quality = (low + high) // 2
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
        if abs(file.tell() - wanted_bytes) < abs(len(best) - wanted_bytes):
            best = file.getvalue()
        low, high = (quality + 1, high) if file.tell() < wanted_bytes else (low, quality - 1)
    return best
