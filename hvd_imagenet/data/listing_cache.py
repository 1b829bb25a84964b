"""Keeps what a large folder of class folders holds, so that a second start need not read 1.28 million entries.

A file for each folder lies in ${XDG_CACHE_HOME:-~/.cache}/hvd_imagenet/listings. It holds good while the folder and
every class folder in it are the same folders with the same modification and change times, in nanoseconds. What that
cannot see: a file system that leaves those times as they are when files come and go (some that show an object store
as folders), and a link in a class folder whose target is gone. Delete the cache where that may be. The contents of the
images are not in it. Any process may read, write or delete these files at any time: they are put in place whole, and
what cannot be read is passed over.
"""

import contextlib
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hvd_imagenet.data.class_folders import ClassFolders, scan, stamp

_FORMAT = 1
# Fewer are read as fast as the cache.
_LEAST_IMAGES = 10_000
# A file system with coarse times shows no difference for a change that follows soon.
_SETTLED_NS = 2_000_000_000
_STAMPS_OF_TIME = slice(0, 2)


def cache_file(folder: Path) -> Path:
    """Where the listing of a folder is kept.

    Args:
        folder: by whatever path; links are followed.

    Returns:
        The file's path; it need not exist.

    Raises:
        RuntimeError: the user has no home folder.

    Example:
        >>> cache_file(Path("/")) == cache_file(Path("/../"))
        True
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hvd_imagenet" / "listings"
    key = hashlib.sha256(f"{_FORMAT}\0".encode() + os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    return root / f"{key}.npz"


def cached_scan(folder: Path) -> ClassFolders:
    """The same as `class_folders.scan`, from the cache where it holds good.

    Args:
        folder: holds one folder a class, or images, or both.

    Returns:
        What is there.

    Raises:
        UserError: a folder that cannot be listed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     (Path(name) / "a").mkdir()
        ...     cached_scan(Path(name)).classes
        ('a',)
    """
    try:
        path = cache_file(folder)
    except RuntimeError:
        return scan(folder)
    found = _load(path, folder)
    if found is None:
        started_ns = time.time_ns()
        found = scan(folder)
        settled = started_ns - int(found.stamps[:, _STAMPS_OF_TIME].max()) > _SETTLED_NS
        if settled and len(found.paths) + len(found.loose) >= _LEAST_IMAGES:
            with contextlib.suppress(OSError):
                _save(path, folder, found)
    return found


def _load(path: Path, folder: Path) -> ClassFolders | None:
    """What the file says of the folder, or None where there is none that can be read and holds good."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if file["folder"].tobytes() != os.fsencode(os.path.realpath(folder)):
                return None
            classes = tuple(os.fsdecode(name) for name in file["classes"].tolist())
            stamps = file["stamps"]
            if not np.array_equal(stamps, _stamps(folder, classes)):
                return None
            found = ClassFolders(classes, file["counts"], file["paths"], file["loose"], stamps)
    # What numpy and zipfile raise on damaged files is listed nowhere, and the folder itself can always be read instead.
    except Exception:
        return None
    return found if len(found.counts) == len(classes) and found.counts.sum() == len(found.paths) else None


def _stamps(folder: Path, classes: tuple[str, ...]) -> np.ndarray:
    return np.array([stamp(folder), *(stamp(folder / name) for name in classes)], dtype=np.int64)


def _save(path: Path, folder: Path, found: ClassFolders) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        "folder": np.frombuffer(os.fsencode(os.path.realpath(folder)), dtype=np.uint8),
        "classes": np.array([os.fsencode(name) for name in found.classes], dtype=bytes),
        "stamps": found.stamps,
        "counts": found.counts,
        "paths": found.paths,
        "loose": found.loose,
    }
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
