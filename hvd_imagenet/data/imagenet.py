"""ILSVRC's validation images as they come: a flat folder, and the classes in a file beside it."""

import csv
import io
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hvd_imagenet.errors import UserError

DEVKIT = "ILSVRC2012_devkit_t12"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
# From a file's bytes and the images' names to the class of every image.
_Parser = Callable[[bytes, Sequence[bytes], Path], list[str]]


def flat_classes(images: np.ndarray, folder: Path) -> tuple[list[str], Path]:
    r"""The classes of images in a flat folder, from the first of these files that is in the folder or beside it.

    LOC_val_solution.csv (Kaggle's); val_labels.txt or imagenet_2012_validation_synset_labels.txt (a class a line, in
    the order of the images' numbers, or an image and its class); ILSVRC2012_validation_ground_truth.txt and meta.mat,
    by themselves, in the folder ILSVRC2012_devkit_t12/data, or in ILSVRC2012_devkit_t12.tar.gz.

    Args:
        images: bytes array (N,), names of the files, such as ILSVRC2012_val_00000001.JPEG.
        folder: that holds them.

    Returns:
        The class (a WordNet ID) of every image, and the file that they come from.

    Raises:
        UserError: there is none of these files, or it does not fit.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as data:
        ...     _ = (Path(data) / "val_labels.txt").write_text("n01751748\nn09193705\n")
        ...     classes, source = flat_classes(np.array([b"ILSVRC2012_val_00000002.JPEG"]), Path(data) / "val")
        >>> classes, source.name
        (['n09193705'], 'val_labels.txt')
    """
    places = [folder, Path(os.path.abspath(folder)).parent]
    names: list[bytes] = images.tolist()
    for place in places:
        for file, parse in _TABLES.items():
            if (place / file).is_file():
                return parse(_read(place / file), names, place / file), place / file
        for kit in (place, place / DEVKIT / "data"):
            if (kit / GROUND_TRUTH).is_file():
                return _of_devkit(_read(kit / GROUND_TRUTH), _read(kit / META), names, kit / GROUND_TRUTH)
        if (archive := place / f"{DEVKIT}.tar.gz").is_file():
            truth, meta = (_member(archive, f"{DEVKIT}/data/{name}") for name in (GROUND_TRUTH, META))
            return _of_devkit(truth, meta, names, archive)
    raise UserError(
        f"{folder}: has {len(images)} images but no class folders, and no file says what is in them; put one of "
        f"{DEVKIT}.tar.gz, {', '.join(_TABLES)} into {places[1]}, or sort the images into one folder a class"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        where = f"; put it beside {GROUND_TRUTH}" if path.name == META else ""
        raise UserError(f"{path}: cannot be read ({error.strerror}){where}") from error


def _member(archive: Path, name: str) -> bytes:
    try:
        with tarfile.open(archive) as tar, tar.extractfile(name) or io.BytesIO() as file:
            return file.read()
    except KeyError as error:
        raise UserError(f"{archive}: has no {name}; download it again") from error
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is damaged, or no tar.gz archive"
        raise UserError(f"{archive}: cannot be read ({reason}); download it again") from error


def _of_devkit(truth: bytes, meta: bytes, images: Sequence[bytes], source: Path) -> tuple[list[str], Path]:
    """Classes by ILSVRC's own numbers (1 to 1000), which are not the order of the WordNet IDs."""
    from scipy.io import loadmat  # type: ignore[import-untyped]  # late: it takes a while

    try:
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        class_of = dict(zip(synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True))
    except Exception as error:  # loadmat says in no one place what damaged files raise
        raise UserError(f"{source}: {META} of the same place cannot be read ({error}); download it again") from error
    try:
        lines = [str(class_of[int(line)]) for line in truth.split()]
    except (KeyError, ValueError) as error:
        raise UserError(f"{source}: {error} is not a class number of {META}; download it again") from error
    return _by_number(lines, images, source), source


def _of_lines(content: bytes, images: Sequence[bytes], source: Path) -> list[str]:
    """A class a line, or an image and its class."""
    rows = [line.replace(",", " ").split() for line in content.decode(errors="replace").splitlines() if line.strip()]
    widths = {len(row) for row in rows}
    if widths == {1}:
        return _by_number([row[0] for row in rows], images, source)
    if widths == {2}:
        return _by_name({row[0]: row[1] for row in rows}, images, source)
    raise UserError(f"{source}: must have a class a line, or an image and its class")


def _of_kaggle(content: bytes, images: Sequence[bytes], source: Path) -> list[str]:
    """`ILSVRC2012_val_00048981,n03995372 85 1 499 272`: after each class comes its box."""
    rows = csv.DictReader(io.StringIO(content.decode(errors="replace")))
    if not {"ImageId", "PredictionString"} <= set(rows.fieldnames or ()):
        raise UserError(f"{source}: must begin with the line ImageId,PredictionString")
    return _by_name({row["ImageId"]: (row["PredictionString"] or "?").split()[0] for row in rows}, images, source)


def _by_number(classes: Sequence[str], images: Sequence[bytes], source: Path) -> list[str]:
    found = []
    for image in images:
        number = re.search(rb"(\d+)\.[^.]+$", image)
        if number is None or not 1 <= int(number[1]) <= len(classes):
            raise UserError(
                f"{source}: has {len(classes)} lines, and none for the image {os.fsdecode(image)!r}, whose name must "
                f"end in a number from 1 on, such as ILSVRC2012_val_00000001.JPEG"
            )
        found.append(classes[int(number[1]) - 1])
    return found


def _by_name(class_of: dict[str, str], images: Sequence[bytes], source: Path) -> list[str]:
    stems = {name.rsplit(".", 1)[0]: wanted for name, wanted in class_of.items()}
    names = [os.fsdecode(image) for image in images]
    missing = [name for name in names if name.rsplit(".", 1)[0] not in stems]
    if missing:
        raise UserError(
            f"{source}: has no line for the image {missing[0]!r} ({len(missing):,} of {len(images):,} images); "
            f"take the list made for these images"
        )
    return [stems[name.rsplit(".", 1)[0]] for name in names]


_TABLES: dict[str, _Parser] = {
    "LOC_val_solution.csv": _of_kaggle,
    "val_labels.txt": _of_lines,
    "imagenet_2012_validation_synset_labels.txt": _of_lines,
}
