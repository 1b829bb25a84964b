"""The images of a folder in ImageNet's layout, in an order that does not depend on the file system."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvd_imagenet.data.class_folders import IMAGE_ENDINGS, LAYOUT, ClassFolders, few
from hvd_imagenet.data.imagenet import flat_classes
from hvd_imagenet.data.images import Images
from hvd_imagenet.data.listing_cache import cached_scan
from hvd_imagenet.data.packed import is_packed, open_packed
from hvd_imagenet.data.selection import Selection
from hvd_imagenet.data.train_list import listed_images
from hvd_imagenet.errors import UserError

_REMEDY = "make one with: hvd-imagenet make-dataset DIR --source digits"


@dataclass(frozen=True, eq=False)
class Listing:
    """Images and their labels.

    Attributes:
        root: the folder that the paths are relative to.
        classes: names of the classes; a label is an index into it.
        paths: bytes array (N,), `CLASS/FILE` as the file system has it. (An array of bytes, because a list of
            ImageNet's 1.28 million strings takes three times the memory in every process.)
        labels: int64 (N,).

    Example:
        >>> listing = Listing(Path("/d"), ("cat", "dog"), np.array([b"cat/1.JPEG", b"dog/1.JPEG"]), np.array([0, 1]))
        >>> len(listing), listing.path(1)
        (2, '/d/dog/1.JPEG')
    """

    root: Path
    classes: tuple[str, ...]
    paths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def path(self, image: int) -> str:
        """The full path of one image."""
        return os.path.join(self.root, os.fsdecode(self.paths[image]))

    name = path

    def read(self, image: int) -> bytes:
        """The encoded file of one image.

        Raises:
            UserError: it cannot be read; the message has its path.
        """
        path = self.path(image)
        try:
            # Half the time of open(path, "rb").read(), which is 2 % of an image's.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.read(descriptor, os.fstat(descriptor).st_size)
            finally:
                os.close(descriptor)
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise UserError(f"{path}: cannot be read ({reason}); replace the file or remove it") from error

    def fingerprint(self) -> str:
        """Sha256 over the relative paths and the labels, in order, in hexadecimal; the root is not part of it.

        Example:
            >>> one = Listing(Path("/a"), ("c",), np.array([b"c/1.JPEG"]), np.array([0]))
            >>> other = Listing(Path("/b"), ("c",), np.array([b"c/1.JPEG"]), np.array([0]))
            >>> one.fingerprint() == other.fingerprint(), len(one.fingerprint())
            (True, 64)
        """
        digest = hashlib.sha256(b"\0".join([*self.paths.tolist(), b""]))
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


def list_images(folder: Path, classes: Sequence[str] | None = None) -> Listing:
    """Lists CLASS/*.JPEG (or jpg, png, in any case), sorted by class, then by file name.

    Hidden files and folders, and files with other endings, are passed over. A folder without class folders is listed
    where the classes are given and a file says which image is of which class: see `imagenet.flat_classes`.

    Args:
        folder: holds one folder a class, or ILSVRC's validation images as they come.
        classes: the names that labels refer to, as those of the training images; the folders' names, sorted, if None.

    Returns:
        The listing.

    Raises:
        UserError: no folder, no classes in it, a class without images, or a class that `classes` lacks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     for file in ("b/2.JPEG", "b/10.jpg", "a/x.png", "a/notes.txt"):
        ...         (Path(name) / file).parent.mkdir(exist_ok=True)
        ...         (Path(name) / file).touch()
        ...     listing = list_images(Path(name))
        >>> listing.classes, listing.paths.tolist(), listing.labels.tolist()
        (('a', 'b'), [b'a/x.png', b'b/10.jpg', b'b/2.JPEG'], [0, 1, 1])
    """
    found = cached_scan(folder)
    if classes is not None and not found.classes and len(found.loose):
        of_images, source = flat_classes(found.loose, folder)
        label_of = _labels(classes, of_images, source, "take the list made for these images")
        return Listing(folder, tuple(classes), found.loose, np.array([label_of[each] for each in of_images]))
    _check_classes(folder, found)
    names = tuple(found.classes if classes is None else classes)
    label_of = _labels(names, found.classes, folder, "remove it here, or add its training images")
    labels = np.repeat(np.array([label_of[name] for name in found.classes], dtype=np.int64), found.counts)
    paths = found.paths
    if (np.diff(labels) < 0).any():  # classes in another order than their folders
        order = np.argsort(labels, kind="stable")
        paths, labels = paths[order], labels[order]
    return Listing(folder, names, paths, labels)


def list_dataset(data: Path, train_list: Path | None = None) -> tuple[Images, Images]:
    """Finds the training and the validation images of a data folder, whatever its kind.

    Args:
        data: holds train/CLASS/*.JPEG and val/CLASS/*.JPEG (or val/*.JPEG and a file of classes), or packed images.
        train_list: a file that names the training images to keep: see `train_list.listed_images`. None for all.

    Returns:
        Training images, validation images; both with the training classes, which are those of all training images.

    Raises:
        UserError: a folder that is missing or empty, or a class in val that train lacks.

    Example:
        >>> list_dataset(Path("/nowhere"))
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.UserError: data folder /nowhere: no such folder; make one with: \
hvd-imagenet make-dataset DIR --source digits
    """
    check_data_folder(data)
    train, validation = open_packed(data) if is_packed(data) else _list_folders(data)
    if train_list is None:
        return train, validation
    chosen = listed_images(train.paths, train_list)
    return Selection(train, chosen, train.classes, train.labels[chosen]), validation


def _list_folders(data: Path) -> tuple[Listing, Listing]:
    for split in ("train", "val"):
        if not (data / split).is_dir():
            raise UserError(f"data folder {data}: has no folder {split!r}; {LAYOUT}")
    train = list_images(data / "train")
    return train, list_images(data / "val", train.classes)


def check_data_folder(data: Path) -> None:
    """Raises UserError where there is no folder, or nothing in it.

    Args:
        data: what the user has named.

    Raises:
        UserError: it is missing, a file, empty, or may not be read.

    Example:
        >>> check_data_folder(Path("/"))
    """
    if not data.exists():
        raise UserError(f"data folder {data}: no such folder; {_REMEDY}")
    if not data.is_dir():
        raise UserError(f"data folder {data}: is not a folder; {LAYOUT}")
    try:
        empty = next(data.iterdir(), None) is None
    except OSError as error:
        raise UserError(f"data folder {data}: cannot be listed ({error.strerror}); mend its permissions") from error
    if empty:
        raise UserError(f"data folder {data}: is empty; {LAYOUT}; {_REMEDY}")


def _labels(classes: Sequence[str], found: Iterable[str], where: Path, remedy: str) -> dict[str, int]:
    """The label of every class, once it is sure that those found are among them."""
    label_of = {name: label for label, name in enumerate(classes)}
    unknown = sorted({name for name in found if name not in label_of})
    if unknown:
        raise UserError(f"{where}: class {few(unknown)} is not among the {len(classes)} training classes; {remedy}")
    return label_of


def _check_classes(folder: Path, found: ClassFolders) -> None:
    """Raises UserError unless a folder holds class folders with images in each."""
    if not found.classes:
        loose = len(found.loose)
        what = f"has {loose} images but no class folders; sort them into one folder a class" if loose else "is empty"
        raise UserError(f"{folder}: {what}; {LAYOUT}")
    empty = found.counts == 0
    if empty.any():
        name = found.classes[int(empty.argmax())]
        endings = ", ".join(os.fsdecode(ending) for ending in IMAGE_ENDINGS)
        raise UserError(f"{folder / name}: class {name!r} has no images ({endings}); add some or remove the folder")
