"""From a file to the pixels of one crop, with Pillow."""

import io
import struct
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

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
) -> np.ndarray:
    """Decodes one crop of an image, resized to a square.

    The file's content decides its format, not its name's ending. EXIF orientation is ignored, transparency dropped.
    The resize is bilinear with a support that grows with the reduction (antialiased).

    Args:
        data: the encoded file.
        name: its path, for messages.
        choose_box: given the image's width and height in pixels, the box (x, y, width, height) inside it to show.
        size_px: side of the square returned.
        flip: whether to mirror left and right.

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
    try:
        with Image.open(io.BytesIO(data)) as image:
            x, y, width, height = choose_box(*image.size)
            scale = _draft(image, min(width, height) / size_px)
            rgb = _to_rgb(image)
            box = (x / scale, y / scale, (x + width) / scale, (y + height) / scale)
            # Division and addition may round past the image's edge, which Pillow refuses.
            box = (box[0], box[1], min(box[2], float(rgb.width)), min(box[3], float(rgb.height)))
            square = rgb.resize((size_px, size_px), Image.Resampling.BILINEAR, box=box)
    except _UNREADABLE as error:
        raise UserError(
            f"{name}: cannot be read as an image ({_reason(error)}); replace the file or remove it"
        ) from error
    pixels = np.asarray(square)
    return pixels[:, ::-1] if flip else pixels


def _draft(image: Image.Image, reduction: float) -> int:
    """Lets libjpeg decode at 1/2, 1/4 or 1/8 where the crop is reduced by at least that much; returns 2, 4, 8 or 1.

    A pixel of the small image covers exactly scale x scale pixels of the large one, so boxes are divided by it.
    """
    scale = next((scale for scale in (8, 4, 2) if reduction >= scale), 1)
    if scale == 1 or image.format != "JPEG":
        return 1
    width, height = image.size
    # Pillow takes the largest of 8, 4, 2, 1 that leaves at least this size, which is `scale`.
    return 1 if image.draft(image.mode, (width // scale, height // scale)) is None else scale


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
