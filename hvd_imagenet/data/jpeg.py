"""Training crops of JPEG files, for which only what the crop needs is decoded.

The work is done by csrc/jpeg_planes.c with the libjpeg-turbo that lies inside Pillow's own wheel: no other package and
no development files are needed, and what it cannot do is left to Pillow, which then reads the file with the same
library. Threads run in parallel, since the GIL is released.
"""

import ctypes
import functools
import io
import math
import os
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features

from hvd_imagenet.data.transforms import Box
from hvd_imagenet.errors import UserError

CHOICE = "HVD_IMAGENET_DECODER"
_OK = 0
_MOST_PIXELS = Image.MAX_IMAGE_PIXELS or math.inf
_POINTER, _INT, _DOUBLE = ctypes.c_void_p, ctypes.c_int, ctypes.c_double
_SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "library": (_POINTER, [ctypes.c_char_p]),
    "new": (_POINTER, [_POINTER]),
    "free": (None, [_POINTER]),
    "open": (_INT, [_POINTER, _POINTER, ctypes.c_size_t, ctypes.POINTER(_INT), ctypes.POINTER(_INT)]),
    "decode": (_INT, [_POINTER, _DOUBLE, _DOUBLE, _DOUBLE, _DOUBLE, _INT, _INT, _INT, _POINTER]),
}


class PartialDecoder:
    """Decodes crops of JPEGs, from any number of threads.

    Args:
        shim: the library made from csrc.
        libjpeg: the libjpeg-turbo to use, with the interface of libjpeg 6.2.

    Raises:
        OSError: a library that cannot be loaded, or lacks a function.

    Example:
        >>> isinstance(partial_decoder(), PartialDecoder)  # where there was a C compiler
        True
    """

    def __init__(self, shim: Path, libjpeg: Path) -> None:
        self._shim = ctypes.CDLL(os.fspath(shim))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._shim, f"jpeg_planes_{name}")
            function.restype, function.argtypes = result, arguments
        self._library = self._shim.jpeg_planes_library(os.fsencode(libjpeg))
        if not self._library:
            raise OSError(f"{libjpeg} is no libjpeg-turbo that can be used")
        self._threads = threading.local()

    def crop(
        self,
        data: "bytes | memoryview",
        choose_box: Callable[[int, int], Box],
        size_px: int,
        flip: bool = False,
        out: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """Decodes one crop, resized to a square; the filter sees nothing outside of the crop.

        Args:
            data: the encoded file.
            choose_box: given the image's width and height in pixels, the box (x, y, width, height) inside it to show.
            size_px: side of the square returned.
            flip: whether to mirror left and right.
            out: uint8 (size_px, size_px, 3), C-contiguous, to be filled; a new array if None.

        Returns:
            uint8 (size_px, size_px, 3), RGB; or None, where the file is damaged, no JPEG in YCbCr or grey, or so large
            that Pillow warns of it. `out` is then in any state.

        Example:
            >>> file = io.BytesIO()
            >>> Image.new("RGB", (40, 30), "white").save(file, "JPEG")
            >>> partial_decoder().crop(file.getvalue(), lambda width, height: (0, 0, width, height), 2)[0, 0].tolist()
            [255, 255, 255]
        """
        if not len(data):
            return None
        thread = self._thread()
        encoded = np.frombuffer(data, np.uint8)
        if self._shim.jpeg_planes_open(thread.pointer, encoded.ctypes.data, len(encoded), *thread.sides) != _OK:
            return None
        width_px, height_px = (side.value for side in thread.sides)
        if width_px * height_px > _MOST_PIXELS:
            return None
        x, y, width, height = choose_box(width_px, height_px)
        square = np.empty((size_px, size_px, 3), np.uint8) if out is None else out
        scale = reduction(width, height, size_px)
        result = self._shim.jpeg_planes_decode(
            thread.pointer, x, y, x + width, y + height, scale, size_px, flip, square.ctypes.data
        )
        return square if result == _OK else None

    def _thread(self) -> "_Thread":
        thread: _Thread | None = getattr(self._threads, "own", None)
        if thread is None:
            thread = self._threads.own = _Thread(self._shim, self._library)
        return thread


class _Thread:
    """What one thread keeps from image to image; it ends with the thread."""

    def __init__(self, shim: ctypes.CDLL, library: int) -> None:
        self._free = shim.jpeg_planes_free
        self.sides = (_INT(), _INT())
        self.pointer = shim.jpeg_planes_new(library)
        if not self.pointer:
            raise MemoryError("no memory to decode JPEGs")

    def __del__(self) -> None:
        self._free(self.pointer)


def reduction(width: float, height: float, size_px: int) -> int:
    """By how much the inverse DCT may reduce a box that is resized to a square, before the resize.

    Args:
        width: of the box, pixels.
        height: of the box, pixels.
        size_px: side of the square.

    Returns:
        8, 4, 2 or 1: the largest that leaves the box at least as large as the square.

    Example:
        >>> reduction(500, 375, 224), reduction(500, 448, 224)
        (1, 2)
    """
    return next((scale for scale in (8, 4, 2) if min(width, height) >= scale * size_px), 1)


@functools.cache
def partial_decoder() -> PartialDecoder | str:
    """The decoder of this installation, checked once; or why there is none.

    Returns:
        It, or the reason in a few words.

    Raises:
        UserError: HVD_IMAGENET_DECODER is neither unset nor `pillow`.

    Example:
        >>> isinstance(partial_decoder(), PartialDecoder | str)
        True
    """
    choice = os.environ.get(CHOICE, "")
    if choice not in ("", "pillow"):
        raise UserError(f"{CHOICE} must be unset or pillow, got {choice!r}; unset it")
    if choice:
        return f"{CHOICE}={choice} is set"
    shim, libjpeg = _shim(), _libjpeg()
    if not shim.exists():
        return "there was no C compiler when hvd_imagenet was installed"
    if libjpeg is None:
        return f"Pillow at {Path(PIL.__file__).parent} is not from its wheel for Linux, which brings libjpeg-turbo"
    try:
        decoder = PartialDecoder(shim, libjpeg)
    except OSError as error:
        return str(error)
    return decoder if _agrees_with_pillow(decoder) else f"{libjpeg} does not decode as Pillow does"


def decoder_name() -> str:
    """What decodes the crops of JPEGs in this process, with versions.

    Example:
        >>> "Pillow" in decoder_name()
        True
    """
    pillow = f"Pillow {PIL.__version__}"
    if isinstance(partial_decoder(), str):
        return pillow
    return f"libjpeg-turbo {features.version('libjpeg_turbo')} of {pillow}, partial"


def _shim() -> Path:
    return Path(__file__).with_name(f"_jpeg_planes{sysconfig.get_config_var('EXT_SUFFIX')}")


def _libjpeg() -> Path | None:
    """The libjpeg with the interface of libjpeg 6.2 in Pillow's wheel."""
    site = Path(PIL.__file__).parents[1]
    found = [path for name in ("pillow.libs", "Pillow.libs") for path in site.glob(f"{name}/libjpeg-*.so.62*")]
    return found[0] if found else None


def _agrees_with_pillow(decoder: PartialDecoder) -> bool:
    """Whether both see the same in an image: a library of another interface would fail or see something else."""
    y, x = np.mgrid[:24, :40]
    file = io.BytesIO()
    Image.fromarray(np.stack([6 * x, 9 * y, 3 * x + 4 * y], axis=-1).astype(np.uint8)).save(file, "JPEG", quality=90)
    seen = decoder.crop(file.getvalue(), lambda *size: (8, 2, 30, 20), 16)
    if seen is None:
        return False
    with Image.open(file) as image:
        wanted = np.asarray(image.crop((8, 2, 38, 22)).resize((16, 16), Image.Resampling.BILINEAR))
    return int(np.abs(seen.astype(int) - wanted).max()) <= 8
