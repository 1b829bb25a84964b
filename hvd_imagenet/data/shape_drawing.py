"""Draws one procedural image: a shape with a texture, on a busy ground, with scraps and noise on top.

A class is a kind of shape and a texture. What varies within a class: position, size, angle, mirroring, colours,
ground, scraps of other shapes, lines, contrast, noise. All of it from counter-based random numbers.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from hvd_imagenet.core.counter_random import hash64, uniform

Points = list[tuple[float, float]]
# A shape is painted as polygons, one over the other: with 1 what it covers, with 0 what is cut out again.
Outline = list[tuple[int, Points]]

_DRAWS_DOMAIN = 0x53484150
_NOISE_DOMAIN = 0x4E4F4953
_OVERSAMPLING = 2
_SCRAPS = 5
_LINES = 3


def _arc(radius: float, start: float, end: float, centre_x: float = 0.0) -> Points:
    angles = [start + (end - start) * step / 40 for step in range(41)]
    return [(centre_x + radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def _star() -> Points:
    radii = [1.0 if corner % 2 == 0 else 0.42 for corner in range(10)]
    return [(radii[i] * math.cos(math.pi * i / 5), radii[i] * math.sin(math.pi * i / 5)) for i in range(10)]


def _heart() -> Points:
    turns = [2 * math.pi * step / 48 for step in range(48)]
    return [
        (
            16 * math.sin(turn) ** 3 / 17,
            -(13 * math.cos(turn) - 5 * math.cos(2 * turn) - 2 * math.cos(3 * turn) - math.cos(4 * turn)) / 17,
        )
        for turn in turns
    ]


_DISC = _arc(0.9, 0, 2 * math.pi)
_CROSS: Points = [(-1, -0.33), (-0.33, -0.33), (-0.33, -1), (0.33, -1), (0.33, -0.33), (1, -0.33)]
_CROSS += [(-x, -y) for x, y in _CROSS]
_ARROW: Points = [(1, 0), (0.1, 0.85), (0.1, 0.33), (-1, 0.33), (-1, -0.33), (0.1, -0.33), (0.1, -0.85)]

# In units of the shape's radius; y points downwards.
OUTLINES: dict[str, Outline] = {
    "disc": [(1, _DISC)],
    "square": [(1, [(-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)])],
    "triangle": [(1, [(1, 0), (-0.6, 0.9), (-0.6, -0.9)])],
    "ring": [(1, _arc(0.95, 0, 2 * math.pi)), (0, _arc(0.5, 0, 2 * math.pi))],
    "cross": [(1, _CROSS)],
    "star": [(1, _star())],
    "crescent": [(1, _arc(1.0, 0, 2 * math.pi)), (0, _arc(0.85, 0, 2 * math.pi, centre_x=0.5))],
    "heart": [(1, _heart())],
    "arrow": [(1, _ARROW)],
    "halfdisc": [(1, [(x - 0.4, y) for x, y in _arc(1.0, -math.pi / 2, math.pi / 2)])],
}

# From coordinates in units of the radius to where the second colour shows.
TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "solid": lambda u, v: np.zeros_like(u, dtype=bool),
    "striped": lambda u, v: np.floor(u / 0.24) % 2 == 0,
    "chequered": lambda u, v: (np.floor(u / 0.34) + np.floor(v / 0.34)) % 2 == 0,
    "dotted": lambda u, v: (u % 0.44 - 0.22) ** 2 + (v % 0.44 - 0.22) ** 2 < 0.14**2,
}

CLASS_NAMES = tuple(f"{kind}-{texture}" for texture in TEXTURES for kind in OUTLINES)


class _Draws:
    """Random numbers in [0, 1), one after the other."""

    def __init__(self, *keys: int) -> None:
        self._values = iter(uniform(_DRAWS_DOMAIN, *keys, np.arange(256)).tolist())

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(next(self._values))

    def below(self, count: int) -> int:
        return int(next(self._values) * count)

    def colour(self, lightness: float, spread: float) -> tuple[int, int, int]:
        red, green, blue = (round(lightness + self.between(-spread, spread)) for _ in range(3))
        return min(max(red, 0), 255), min(max(green, 0), 255), min(max(blue, 0), 255)


def draw_shape(class_index: int, size_px: int, seed: int, split: int, image: int) -> Image.Image:
    """Draws one image of a class.

    Args:
        class_index: into CLASS_NAMES.
        size_px: side of the image.
        seed: of the data set.
        split: 0 for training, 1 for validation.
        image: its number in the split.

    Returns:
        An RGB image, a pure function of the arguments.

    Example:
        >>> draw_shape(0, 32, seed=1, split=0, image=7).size
        (32, 32)
    """
    kind, texture = CLASS_NAMES[class_index].split("-")
    draws = _Draws(seed, split, image)
    dark_ground = draws.below(2) == 0
    ground, figure = (70.0, 175.0) if dark_ground else (185.0, 80.0)
    picture = _ground(draws, size_px, ground)
    for _ in range(_SCRAPS):
        scrap = list(OUTLINES.values())[draws.below(len(OUTLINES))]
        _paint(picture, draws, scrap, "solid", (0.05, 0.11), (draws.colour(figure, 70), draws.colour(figure, 70)))
    colours = draws.colour(figure, 45), draws.colour(2 * ground - figure, 60)
    _paint(picture, draws, OUTLINES[kind], texture, (0.22, 0.38), colours)
    _lines(picture, draws, figure)
    return _noisy(picture, draws.between(15, 60), seed, split, image)


def _ground(draws: _Draws, size_px: int, lightness: float) -> Image.Image:
    cells = np.array([[draws.colour(lightness, 50) for _ in range(4)] for _ in range(4)], dtype=np.uint8)
    return Image.fromarray(cells).resize((size_px, size_px), Image.Resampling.BICUBIC)


def _paint(
    picture: Image.Image,
    draws: _Draws,
    outline: Outline,
    texture: str,
    radius_range: tuple[float, float],
    colours: tuple[tuple[int, int, int], tuple[int, int, int]],
) -> None:
    """Paints a shape of a random size, place and angle; sizes are fractions of the picture's side."""
    side = picture.width * _OVERSAMPLING
    radius = draws.between(*radius_range)
    centre_x, centre_y = (draws.between(radius * 0.8, 1 - radius * 0.8) * side for _ in range(2))
    radius *= side
    angle, mirror = draws.between(0, 2 * math.pi), 1 - 2 * draws.below(2)
    cosine, sine = math.cos(angle) * radius, math.sin(angle) * radius
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    for value, points in outline:
        turned = [
            (centre_x + cosine * x - sine * y * mirror, centre_y + sine * x + cosine * y * mirror) for x, y in points
        ]
        pen.polygon(turned, fill=255 * value)
    mask = mask.reduce(_OVERSAMPLING)
    picture.paste(colours[0], mask=mask)
    if texture != "solid":
        pixels = (np.arange(picture.width) + 0.5) * _OVERSAMPLING
        x, y = (pixels - centre_x)[np.newaxis, :], (pixels - centre_y)[:, np.newaxis]
        u, v = (cosine * x + sine * y) / radius**2, (cosine * y - sine * x) / radius**2
        second = TEXTURES[texture](u, v)
        picture.paste(colours[1], mask=Image.fromarray(np.where(second, np.asarray(mask), 0).astype(np.uint8)))


def _lines(picture: Image.Image, draws: _Draws, lightness: float) -> None:
    pen = ImageDraw.Draw(picture)
    width = max(1, picture.width // 48)
    for _ in range(_LINES):
        ends = [draws.between(0, picture.width) for _ in range(4)]
        pen.line(ends, fill=draws.colour(lightness, 70), width=width)


def _noisy(picture: Image.Image, amplitude: float, seed: int, split: int, image: int) -> Image.Image:
    """Adds noise of a triangular distribution from -amplitude to amplitude to every colour of every pixel."""
    values = np.asarray(picture)
    words = hash64(_NOISE_DOMAIN, seed, split, image, np.arange(-(-values.size // 4)))
    # Eight bytes a word, two for each value; byte order fixed, so that every machine draws the same.
    pairs = words.astype("<u8").view(np.uint8).astype(np.float32).reshape(-1, 2)
    noise = (pairs[:, 0] - pairs[:, 1])[: values.size].reshape(values.shape) * np.float32(amplitude / 255)
    return Image.fromarray(np.clip(values + noise, 0, 255).astype(np.uint8))
