"""Images packed into a few large files: Arrow's IPC file format, memory-mapped, one row an image.

A folder of packed images holds train-00000.arrow, …, val-00000.arrow, … and manifest.json. A row has `image` (the
encoded file), `label` (an index into the classes) and `name` (the path that the file had in its folder of classes);
the classes are in the schema's metadata and in the manifest, which also has the size and the SHA-256 of every shard.
Any software that reads Arrow reads the shards.

Shards that are read from front to back (WebDataset, TFRecord) are not read here. The paper's shuffle is global: every
epoch is one permutation of all training images (section 2.3), and that is what makes a run on 256 processes the run
of one. A stream of shards can only shuffle within a buffer of a few thousand images, so that a minibatch depends on
which images lie side by side, on the size of the buffer and on which process has which shard. Arrow's files have an
offset for every row, so that any image is one read of its bytes, wherever it lies.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvd_imagenet.data.packed_manifest import (
    COLUMNS,
    MANIFEST,
    SPLITS,
    UNFINISHED,
    Manifest,
    Shard,
    Split,
    read_manifest,
)
from hvd_imagenet.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_AGAIN = "give the command `hvd-imagenet pack SRC DST` again, which makes only what is missing"
_HASHED_AT_ONCE = 1 << 20


def is_packed(folder: Path) -> bool:
    """Whether a folder holds packed images, be they whole or unfinished.

    Args:
        folder: to look at.

    Returns:
        True if open_packed is the function to open it with.

    Example:
        >>> is_packed(Path("/nowhere"))
        False
    """
    return (folder / MANIFEST).is_file() or (folder / UNFINISHED).is_file()


def open_packed(folder: Path) -> "tuple[PackedImages, PackedImages]":
    """Opens packed images; nothing but labels and offsets is read.

    Args:
        folder: that `hvd-imagenet pack` has made.

    Returns:
        Training images, validation images.

    Raises:
        UserError: it is unfinished, or a shard is missing or damaged.
    """
    manifest = _finished_manifest(folder)
    train, val = (PackedImages(folder, manifest.classes, manifest.splits[split]) for split in SPLITS)
    return train, val


class PackedImages:
    """The images of a split, for the reader (see Images); any number of threads may read at once.

    Args:
        folder: of the shards.
        classes: names of the classes.
        split: what the manifest says of it.

    Raises:
        UserError: a shard is missing or damaged.
    """

    def __init__(self, folder: Path, classes: tuple[str, ...], split: Split) -> None:
        shards = [_map_shard(folder / shard.file, shard, len(classes)) for shard in split.shards]
        self._shards = shards
        self._first_rows = np.cumsum([0] + [shard.rows for shard in split.shards])[:-1].tolist()
        self._starts = np.concatenate([shard.starts for shard in shards])
        self._sizes = np.concatenate([shard.sizes for shard in shards])
        self._labels = np.concatenate([shard.labels for shard in shards])
        self._classes = classes
        self._fingerprint = split.fingerprint

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is an index into it."""
        return self._classes

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        return self._labels

    @property
    def paths(self) -> np.ndarray:
        """Bytes array (N,): the path that each image had in its folder."""
        return np.array([path for shard in self._shards for path in shard.names.to_pylist()])

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self._labels)

    def read(self, image: int) -> bytes:
        """The encoded file of one image.

        It is a copy that pyarrow makes with the interpreter's lock released: where a page is not in memory yet, only
        this thread waits for the disk. A view of the mapped file would move that wait to whatever touches it first,
        which may hold the lock.
        """
        shard = self._shards[bisect_right(self._first_rows, image) - 1]
        data: bytes = shard.file.read_at(int(self._sizes[image]), int(self._starts[image]))
        return data

    def name(self, image: int) -> str:
        """The shard's path and the image's path in its folder."""
        index = bisect_right(self._first_rows, image) - 1
        shard = self._shards[index]
        path: bytes = shard.names[image - self._first_rows[index]].as_py()
        return f"{shard.path}: {path.decode(errors='replace')}"

    def fingerprint(self) -> str:
        """That of the folder that was packed; with the options where the images have been made smaller."""
        return self._fingerprint


def verify(folder: Path, threads: int, progress: Callable[[int], object] = lambda count: None) -> Manifest:
    """Compares the SHA-256 of every shard with the manifest's.

    Args:
        folder: of packed images.
        threads: that read.
        progress: called with the number of bytes of every shard that is done.

    Returns:
        The manifest.

    Raises:
        UserError: it is unfinished, or shards are missing or damaged; the message names them.
    """
    manifest = _finished_manifest(folder)
    shards = [shard for split in SPLITS for shard in manifest.splits[split].shards]

    def is_damaged(shard: Shard) -> bool:
        whole = has_size(folder / shard.file, shard) and _sha256(folder / shard.file) == shard.sha256
        progress(shard.bytes)
        return not whole

    with ThreadPoolExecutor(threads) as pool:
        damaged = [shard.file for shard, bad in zip(shards, pool.map(is_damaged, shards), strict=True) if bad]
    if damaged:
        raise UserError(
            f"{folder}: {len(damaged)} of {len(shards)} shards missing or damaged: {', '.join(damaged)}; "
            f"remove those that are there and {_AGAIN}"
        )
    return manifest


def has_size(path: Path, shard: Shard) -> bool:
    """Whether a shard is there and has its size.

    Args:
        path: of the file.
        shard: what the manifest says of it.

    Returns:
        True if so; the contents are not looked at.
    """
    try:
        return path.stat().st_size == shard.bytes
    except OSError:
        return False


def _finished_manifest(folder: Path) -> Manifest:
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder / MANIFEST)
        if any(not 0 < split.images == split.rows for split in manifest.splits.values()):
            raise UserError(f"{folder / MANIFEST}: is damaged; remove the folder and pack the images anew")
        return manifest
    if (folder / UNFINISHED).is_file():
        raise UserError(
            f"{folder}: is not packed to its end; give its command `hvd-imagenet pack SRC DST` again, which goes on"
        )
    raise UserError(f"{folder}: has no {MANIFEST}; name a folder that `hvd-imagenet pack` has made")


@dataclass(frozen=True)
class _MappedShard:
    path: Path
    file: "pa.BufferReader"
    starts: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    names: "pa.ChunkedArray"


def _map_shard(path: Path, shard: Shard, classes: int) -> _MappedShard:
    import pyarrow as pa  # late: runs from folders do without it

    try:
        size = path.stat().st_size
        if size != shard.bytes:
            raise UserError(f"{path}: has {size} bytes, and the manifest says {shard.bytes}; remove it and {_AGAIN}")
        # The mapping outlives the file's descriptor, so that shards do not count against `ulimit -n`.
        with pa.memory_map(str(path)) as file:
            mapped = file.read_buffer()
        table = pa.ipc.open_file(pa.BufferReader(mapped)).read_all()
        if [(field.name, str(field.type)) for field in table.schema] != list(COLUMNS.items()):
            raise ValueError("columns")
        table.validate(full=True)
        labels = table["label"].to_numpy()
        if len(table) != shard.rows or labels.min() < 0 or labels.max() >= classes:
            raise ValueError("rows or labels")
        ranges = [_ranges(chunk, mapped.address) for chunk in table["image"].chunks]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {_AGAIN}") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: is damaged; remove it and {_AGAIN}") from error
    starts, sizes = (np.concatenate(parts) for parts in zip(*ranges, strict=True))
    return _MappedShard(path, pa.BufferReader(mapped), starts, sizes, labels.astype(np.int64), table["name"])


def _ranges(images: "pa.LargeBinaryArray", address: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in the file each image begins, and how many bytes it has; int64 (rows,) each."""
    _, offsets, data = images.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[images.offset : images.offset + len(images) + 1]
    return data.address - address + ends[:-1], np.diff(ends)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASHED_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()
