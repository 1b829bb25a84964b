"""ILSVRC's images in the tar archives that they are published in: found once, then read from where they lie."""

import contextlib
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from hvd_imagenet.data.class_folders import IMAGE_ENDINGS, few
from hvd_imagenet.data.imagenet import flat_classes
from hvd_imagenet.data.listing import Listing
from hvd_imagenet.errors import UserError

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"
# Path (as in a folder of the extracted images), and where its bytes are in the archive: first byte, number.
_Member = tuple[bytes, int, int]


@dataclass(frozen=True, eq=False)
class TarImages:
    """Images in an uncompressed tar archive (see Images).

    Attributes:
        archive: the archive's path.
        listing: of a folder with the same images, which need not exist.
        starts: int64 (N,), where each file begins in the archive.
        sizes: int64 (N,), its bytes.
    """

    archive: Path
    listing: Listing
    starts: np.ndarray
    sizes: np.ndarray

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is an index into it."""
        return self.listing.classes

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        return self.listing.labels

    @property
    def paths(self) -> np.ndarray:
        """Bytes array (N,), those that the images would have in a folder."""
        return self.listing.paths

    def __len__(self) -> int:
        """The number of images."""
        return len(self.listing)

    def name(self, image: int) -> str:
        """The archive's path and the image's path in it."""
        return f"{self.archive}: {os.fsdecode(self.paths[image])}"

    def read(self, image: int) -> bytes:
        """The encoded file of one image.

        Raises:
            UserError: the archive cannot be read.
        """
        try:
            with self.archive.open("rb", buffering=0) as file:
                return os.pread(file.fileno(), int(self.sizes[image]), int(self.starts[image]))
        except OSError as error:
            raise UserError(f"{self.archive}: cannot be read ({error.strerror})") from error

    def fingerprint(self) -> str:
        """That of a folder with the same images."""
        return self.listing.fingerprint()


def open_train_tar(archive: Path, progress: Callable[[int], object] = lambda archives: None) -> TarImages:
    """Finds the training images; classes and images are in the order of a folder's listing.

    Args:
        archive: ILSVRC2012_img_train.tar, a tar of tars nXXXXXXXX.tar.
        progress: called with 1 after every inner archive.

    Returns:
        The images.

    Raises:
        UserError: the archive is cut off, compressed, or another.
    """
    members = _members_of_train(archive, progress)
    paths, starts, sizes = (np.array(column) for column in zip(*members, strict=True))
    classes, labels = np.unique([os.fsdecode(path.split(b"/")[0]) for path in paths.tolist()], return_inverse=True)
    listing = Listing(archive, tuple(classes.tolist()), paths, labels.astype(np.int64))
    return TarImages(archive, listing, starts, sizes)


def open_val_tar(archive: Path, classes: tuple[str, ...]) -> TarImages:
    """Finds the validation images; their classes come from a file beside the archive: see `imagenet.flat_classes`.

    Args:
        archive: ILSVRC2012_img_val.tar.
        classes: of the training images.

    Returns:
        The images, in the order of a flat folder's listing.

    Raises:
        UserError: the archive is cut off, compressed, or another; no file says what is in the images.
    """
    with _opened(archive) as file:
        members = sorted(_images(file))
    if not members:
        raise UserError(f"{archive}: has no images in it; wanted: ILSVRC2012_val_*.JPEG, as published")
    paths, starts, sizes = (np.array(column) for column in zip(*members, strict=True))
    of_images, truth = flat_classes(paths, archive)
    label_of = {name: label for label, name in enumerate(classes)}
    unknown = sorted(set(of_images) - set(classes))
    if unknown:
        raise UserError(
            f"{truth}: class {few(unknown)} is not among the {len(classes)} training classes; "
            "take the list made for these images"
        )
    listing = Listing(archive, classes, paths, np.array([label_of[each] for each in of_images]))
    return TarImages(archive, listing, starts, sizes)


def _members_of_train(archive: Path, progress: Callable[[int], object]) -> list[_Member]:
    """Path nXXXXXXXX/FILE, first byte and size of every image, sorted by class, then by file name."""
    found: list[tuple[str, list[_Member]]] = []
    with _opened(archive) as file:
        for member, inner in _inner_archives(file):
            name = Path(member.name).stem
            prefix = os.fsencode(name) + b"/"
            images = sorted((prefix + path, member.offset_data + start, size) for path, start, size in _images(inner))
            if images:
                found.append((name, images))
            progress(1)
    if not found:
        raise UserError(f"{archive}: has no archives of images in it; wanted: a tar of nXXXXXXXX.tar, as published")
    return [image for _, images in sorted(found) for image in images]


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes]]:
    """Opens an archive; what is wrong with it becomes one line."""
    try:
        # Headers lie one image apart, so that a buffer for reading ahead would be filled with what is not needed.
        with archive.open("rb", buffering=tarfile.BLOCKSIZE) as file:
            yield file
    except (tarfile.TarError, EOFError) as error:
        raise UserError(
            f"{archive}: is cut off, or no uncompressed tar archive ({error}); fetch it again and compare its "
            "checksum with the published one"
        ) from error
    except OSError as error:
        raise UserError(f"{archive}: cannot be read ({error.strerror})") from error


def _inner_archives(file: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    with tarfile.open(fileobj=file, mode="r:") as outer:
        for member in outer:
            inner = outer.extractfile(member) if member.name.endswith(".tar") else None
            if inner is not None:
                yield member, inner


def _images(file: IO[bytes]) -> Iterator[_Member]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            name = os.fsencode(os.path.basename(member.name))
            if member.isfile() and name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(b"."):
                yield name, member.offset_data, member.size
