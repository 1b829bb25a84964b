"""Which images a folder of class folders holds, in an order that does not depend on the file system."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvd_imagenet.errors import UserError

IMAGE_ENDINGS = (b".jpeg", b".jpg", b".png")
LAYOUT = "wanted: train/CLASS/*.JPEG and val/CLASS/*.JPEG"


@dataclass(frozen=True, eq=False)
class ClassFolders:
    """What was found in a folder.

    Attributes:
        classes: names of the class folders, sorted.
        counts: int64 (C,), images in each.
        paths: bytes array (N,), `CLASS/FILE` as the file system has it, sorted by class, then by file name. (An array
            of bytes, because a list of ImageNet's 1.28 million strings takes three times the memory.)
        loose: bytes array (L,), images beside the class folders, sorted.
        stamps: int64 (1 + C, 3), of the folder and then of each class folder: see `stamp`.
    """

    classes: tuple[str, ...]
    counts: np.ndarray
    paths: np.ndarray
    loose: np.ndarray
    stamps: np.ndarray


def stamp(folder: "Path | str") -> tuple[int, int, int]:
    """What changes when a folder gains, loses or renames an entry, or is another folder.

    Args:
        folder: links are followed.

    Returns:
        When its entries were changed, when it was changed itself (both in nanoseconds), and its number on the disk.

    Raises:
        OSError: there is none, or it may not be looked at.

    Example:
        >>> stamp("/") == stamp("/")
        True
    """
    status = os.stat(folder)
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def scan(folder: Path) -> ClassFolders:
    """Lists CLASS/*.JPEG (or jpg, png, in any case) and the images beside the class folders.

    Hidden files and folders, and files with other endings, are passed over. Stamps are taken before their folder is
    read, so that a change in between makes them old.

    Args:
        folder: holds one folder a class, or images, or both.

    Returns:
        What is there; perhaps nothing.

    Raises:
        UserError: a folder that cannot be listed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     for file in ("b/2.JPEG", "b/10.jpg", "a/x.png", "a/notes.txt", "loose.png"):
        ...         (Path(name) / file).parent.mkdir(exist_ok=True)
        ...         (Path(name) / file).touch()
        ...     found = scan(Path(name))
        >>> found.classes, found.counts.tolist(), found.paths.tolist(), found.loose.tolist()
        (('a', 'b'), [1, 2], [b'a/x.png', b'b/10.jpg', b'b/2.JPEG'], [b'loose.png'])
    """
    try:
        stamps = [stamp(folder)]
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
            classes = tuple(sorted(entry.name for entry in visible if entry.is_dir()))
            files = [os.fsencode(entry.name) for entry in visible if entry.is_file()]
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}); {LAYOUT}") from error
    paths: list[bytes] = []
    counts: list[int] = []
    for name in classes:
        images, of_class = _images_of_class(folder / name)
        paths.extend(images)
        counts.append(len(images))
        stamps.append(of_class)
    return ClassFolders(
        classes,
        np.array(counts, dtype=np.int64),
        np.array(paths, dtype=bytes),
        np.array(sorted(filter(_is_image, files)), dtype=bytes),
        np.array(stamps, dtype=np.int64),
    )


def few(names: "Sequence[str]") -> str:
    """The first of some names, and how many more there are.

    Example:
        >>> few(["a", "b", "c"])
        "'a' (and 2 more)"
    """
    return repr(names[0]) + (f" (and {len(names) - 1:,} more)" if len(names) > 1 else "")


def _is_image(name: bytes) -> bool:
    return name.lower().endswith(IMAGE_ENDINGS) and name[:1] != b"."


def _images_of_class(folder: Path) -> tuple[list[bytes], tuple[int, int, int]]:
    """`CLASS/FILE` of the images in one class folder, sorted, and the folder's stamp."""
    prefix = os.fsencode(folder.name) + b"/"
    try:
        before = stamp(folder)
        with os.scandir(os.fsencode(folder)) as entries:
            names = [entry.name for entry in entries if _is_image(entry.name) and entry.is_file()]
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}); mend its permissions") from error
    return sorted(prefix + name for name in names), before
