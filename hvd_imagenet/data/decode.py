"""From a file to the pixels of one crop: JPEGs of training in part, all else with Pillow."""

import io
import math
import struct
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

from hvd_imagenet.data.jpeg import PartialDecoder, partial_decoder, reduction
from hvd_imagenet.data.transforms import Box
from hvd_imagenet.errors import UserError

# ImageNet has images with broken EXIF blocks, which are not used here; Pillow would warn of each one every epoch.
warnings.filterwarnings("ignore", message=r"(?i)(possibly )?corrupt EXIF data", module=r"PIL\.")

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def decode_crop(
    data: "bytes | memoryview",
    name: str,
    choose_box: Callable[[int, int], Box],
    size_px: int,
    flip: bool = False,
    full_quality: bool = False,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Decodes one crop of an image, resized to a square.

    The file's content decides its format, not its name's ending. EXIF orientation is ignored, transparency dropped.
    The resize is bilinear with a support that grows with the reduction (antialiased).

    A training crop shows nothing of what lies outside of it, as when an image is cropped and then resized, and a JPEG
    is decoded at 1/2, 1/4 or 1/8 of its size where the crop is at least that much larger than the square. In full
    quality, for validation, Pillow decodes the whole image at its size, and the filter sees what surrounds the box, as
    when an image is resized and then cropped.

    Args:
        data: the encoded file.
        name: its path, for messages.
        choose_box: given the image's width and height in pixels, the box (x, y, width, height) inside it to show; it
            may be called twice.
        size_px: side of the square returned.
        flip: whether to mirror left and right.
        full_quality: as validation images are shown.
        out: uint8 (size_px, size_px, 3), C-contiguous, to be filled and returned; a new array if None.

    Returns:
        uint8 (size_px, size_px, 3), RGB.

    Raises:
        UserError: it is truncated or no image; the message has its name.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("L", (40, 30), 128).save(file, "PNG")
        >>> decode_crop(file.getvalue(), "grey.png", lambda width, height: (0, 0, width, height), 2)[0, 0].tolist()
        [128, 128, 128]
    """
    if not full_quality and isinstance(decoder := partial_decoder(), PartialDecoder):
        square = decoder.crop(data, choose_box, size_px, flip, out)
        if square is not None:
            return square
    pixels = _decode_with_pillow(data, name, choose_box, size_px, full_quality)
    if flip:
        pixels = pixels[:, ::-1]
    if out is None:
        return pixels
    out[...] = pixels
    return out


def _decode_with_pillow(
    data: "bytes | memoryview", name: str, choose_box: Callable[[int, int], Box], size_px: int, full_quality: bool
) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            x, y, width, height = choose_box(*image.size)
            scale = 1 if full_quality else _draft(image, reduction(width, height, size_px))
            rgb = _to_rgb(image)
            # Division and addition may round past the image's edge, which Pillow refuses.
            right, lower = min((x + width) / scale, float(rgb.width)), min((y + height) / scale, float(rgb.height))
            square = _resize(rgb, (x / scale, y / scale, right, lower), size_px, around=full_quality)
    except _UNREADABLE as error:
        raise UserError(
            f"{name}: cannot be read as an image ({_reason(error)}); replace the file or remove it"
        ) from error
    return np.asarray(square)


def _draft(image: Image.Image, scale: int) -> int:
    """Lets libjpeg decode at 1/scale; returns the scale that it takes, 1 where it does not.

    A pixel of the small image covers exactly scale x scale pixels of the large one, so boxes are divided by it.
    """
    if scale == 1 or image.format != "JPEG":
        return 1
    width, height = image.size
    # Pillow takes the largest of 8, 4, 2, 1 that leaves at least this size, which is `scale`.
    return 1 if image.draft(image.mode, (width // scale, height // scale)) is None else scale


def _resize(rgb: Image.Image, box: Box, size_px: int, around: bool) -> Image.Image:
    """Resizes the box (left, upper, right, lower); with what surrounds it, or without."""
    if not around:
        left, upper = math.floor(box[0]), math.floor(box[1])
        rgb = rgb.crop((left, upper, math.ceil(box[2]), math.ceil(box[3])))
        box = (box[0] - left, box[1] - upper, box[2] - left, box[3] - upper)
    return rgb.resize((size_px, size_px), Image.Resampling.BILINEAR, box=box)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        # Pillow would clip 16-bit grey at 255 where the upper byte is meant.
        high_byte = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(high_byte).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "unknown or damaged format"
    return " ".join(str(error).split()) or type(error).__name__
