"""CIFAR-10 and CIFAR-100 out of their official binary archives, as PNG files in ImageNet's layout."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hvd_imagenet.errors import UserError

SIZE_PX = 32
_PIXEL_BYTES = 3 * SIZE_PX * SIZE_PX


@dataclass(frozen=True)
class Cifar:
    """What an archive of one of the two data sets holds.

    Attributes:
        archive: the name it is published under.
        folder: that its members lie in.
        names: the member with the names of the classes, one a line.
        train: members with training images.
        validation: members with test images, which become validation images.
        label_bytes: before every image's pixels; the last of them is the class.
    """

    archive: str
    folder: str
    names: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    label_bytes: int


CIFAR = {
    "cifar10": Cifar(
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        "batches.meta.txt",
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        ("test_batch.bin",),
        label_bytes=1,
    ),
    # The first label is of the 20 coarse classes.
    "cifar100": Cifar(
        "cifar-100-binary.tar.gz",
        "cifar-100-binary",
        "fine_label_names.txt",
        ("train.bin",),
        ("test.bin",),
        label_bytes=2,
    ),
}


def cifar_files(source: str, archive: Path) -> tuple[Iterator[tuple[str, bytes]], int]:
    """The images of an archive, read and checked before the first one is given out.

    Args:
        source: one of CIFAR.
        archive: path of cifar-10-binary.tar.gz or cifar-100-binary.tar.gz.

    Returns:
        Relative path (train/airplane/00029.png, with the image's number in the archive) and content of every file; and
        how many there are.

    Raises:
        UserError: it is another archive, or damaged.

    Example:
        >>> cifar_files("cifar10", Path("/nowhere.tar.gz"))
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.UserError: --from /nowhere.tar.gz: cannot be read (No such file or directory); \
give the path of cifar-10-binary.tar.gz
    """
    kind = CIFAR[source]
    members = _members(kind, archive)
    names = _class_names(members[kind.names], f"--from {archive}: {kind.names}")
    splits = {}
    for split, files in (("train", kind.train), ("val", kind.validation)):
        records = [_records(members[file], kind.label_bytes, f"--from {archive}: {file}", len(names)) for file in files]
        splits[split] = np.concatenate(records)
    return _images(splits, names, kind.label_bytes), sum(map(len, splits.values()))


def _members(kind: Cifar, archive: Path) -> dict[str, bytes]:
    """The contents of the members by their names."""
    wanted = (kind.names, *kind.train, *kind.validation)
    found: dict[str, bytes] = {}
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                if folder == kind.folder and name in wanted and (file := tar.extractfile(member)) is not None:
                    found[name] = file.read()
            while stream.read(1 << 20):  # the checksum is behind the last byte
                pass
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is damaged, or no tar.gz archive"
        raise UserError(f"--from {archive}: cannot be read ({reason}); give the path of {kind.archive}") from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise UserError(
            f"--from {archive}: has no {kind.folder}/{missing[0]}; give the binary version, {kind.archive}, of "
            f"https://www.cs.toronto.edu/~kriz/cifar.html"
        )
    return found


def _class_names(content: bytes, what: str) -> list[str]:
    names = content.decode(errors="replace").split()
    if len(names) < 2 or len(set(names)) < len(names) or any("/" in name or name.startswith(".") for name in names):
        raise UserError(f"{what} must have the name of a class in every line, each of them once; download it again")
    return names


def _records(content: bytes, label_bytes: int, what: str, classes: int) -> np.ndarray:
    """Labels and pixels, uint8 (N, label_bytes + 3072)."""
    size = label_bytes + _PIXEL_BYTES
    if not content or len(content) % size:
        raise UserError(f"{what} has {len(content):,} bytes, not a multiple of {size:,}; download it again")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
    highest = int(records[:, label_bytes - 1].max())
    if highest >= classes:
        raise UserError(f"{what} has an image of class {highest}, but there are {classes}; download it again")
    return records


def _images(splits: dict[str, np.ndarray], names: list[str], label_bytes: int) -> Iterator[tuple[str, bytes]]:
    for split, records in splits.items():
        pixels = records[:, label_bytes:].reshape(-1, 3, SIZE_PX, SIZE_PX).transpose(0, 2, 3, 1)
        for number, (record, image) in enumerate(zip(records, pixels, strict=True)):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            yield f"{split}/{names[record[label_bytes - 1]]}/{number:05d}.png", file.getvalue()
