"""Packs the images of a folder into shards (see packed), from the first to the last or from where it was stopped."""

import contextlib
import fcntl
import platform
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import PIL
import pyarrow as pa

from hvd_imagenet import __version__
from hvd_imagenet.data.images import Images
from hvd_imagenet.data.packed import has_size
from hvd_imagenet.data.packed_manifest import MANIFEST, UNFINISHED, Manifest, Shard, Split, read_manifest
from hvd_imagenet.data.shard_writer import ShardWriter
from hvd_imagenet.data.shrinking import shrink
from hvd_imagenet.errors import UserError

DEFAULT_QUALITY = 90
_BYTES_PER_MB = 1_000_000
_LOCK = ".lock"
# Enough images for a task to outweigh its handling.
_IMAGES_PER_TASK = 8
_TASKS_PER_THREAD = 3
# The encoded image, and the size that it had in its source.
_Encoded = tuple[bytes, int]


class Source(Images, Protocol):
    """Images that can be packed: their paths are kept."""

    @property
    def paths(self) -> np.ndarray:
        """Bytes array (N,), `CLASS/FILE`."""


@dataclass(frozen=True)
class PackOptions:
    """What the shards depend on beside the images.

    Attributes:
        max_side_px: images whose longer side is above it are made smaller; None leaves all as they are.
        quality: of the JPEGs that are then written; None without max_side_px.
        shard_mb: images in a shard, in millions of bytes; an image that is larger has a shard of its own.

    Raises:
        ValueError: a number out of bounds; the message begins with its option's name.

    Example:
        >>> PackOptions(max_side_px=400, quality=90).as_dict()
        {'shard_mb': 256, 'max_side': 400, 'quality': 90}
    """

    max_side_px: int | None = None
    quality: int | None = None
    shard_mb: int = 256

    def __post_init__(self) -> None:
        """Checks every number."""
        if self.max_side_px is not None and self.max_side_px < 1:
            raise ValueError(f"max-side must be at least 1 pixel, got {self.max_side_px}")
        if (self.max_side_px is None) != (self.quality is None):
            raise ValueError("quality is for images that are encoded again; give it with --max-side, or leave it out")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be from 1 to 100, got {self.quality}")
        if self.shard_mb < 1:
            raise ValueError(f"shard-mb must be at least 1, got {self.shard_mb}")

    def as_dict(self) -> dict[str, int]:
        """The options by name, those that are given."""
        every = {"shard_mb": self.shard_mb, "max_side": self.max_side_px, "quality": self.quality}
        return {name: value for name, value in every.items() if value is not None}

    def fingerprint(self, source: str) -> str:
        """That of packed images, given that of their source: the same unless images are encoded again."""
        return source if self.max_side_px is None else f"{source} max-side {self.max_side_px} quality {self.quality}"


def pack(
    sources: Mapping[str, Source],
    folder: Path,
    options: PackOptions,
    threads: int,
    progress: Callable[[int], object] = lambda images: None,
) -> tuple[Manifest, int]:
    """Writes shards, and at the end their manifest. Shards that are there are kept; what is missing is made.

    In memory are one record batch (32 MB) and the images in the making.

    Args:
        sources: "train" and "val".
        folder: to make, or to go on with.
        options: what the shards depend on.
        threads: that read images and encode them again.
        progress: called with the number of images that are done since the last call.

    Returns:
        The manifest, and how many images were packed now; the others were there.

    Raises:
        UserError: the folder cannot be written, or holds something else; an image that cannot be read.
    """
    made = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder), ThreadPoolExecutor(threads) as pool:
            manifest = _begin(sources, folder, options)
            for name, source in sources.items():
                encoder = _Encoder(source, options, pool, threads)
                made += _pack_split(name, encoder, folder, manifest, options.shard_mb * _BYTES_PER_MB, progress)
            if (folder / UNFINISHED).exists():
                manifest.write(folder / MANIFEST)
                (folder / UNFINISHED).unlink()
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); make room or name a folder that can be written "
            "and give the command again, which goes on where it ended"
        ) from error
    return manifest, made


class _Encoder:
    """Reads images ahead in threads, as many as are needed to keep those busy."""

    def __init__(self, source: Source, options: PackOptions, pool: ThreadPoolExecutor, threads: int) -> None:
        self.labels = source.labels
        self.paths = source.paths
        self._source = source
        self._options = options
        self._pool = pool
        self._most_pending = threads * _TASKS_PER_THREAD

    def encoded(self, images: range) -> Iterator[_Encoded]:
        pending: deque[Future[list[_Encoded]]] = deque()
        try:
            for start in images[::_IMAGES_PER_TASK]:
                some = range(start, min(start + _IMAGES_PER_TASK, images.stop))
                pending.append(self._pool.submit(self._encode_all, some))
                if len(pending) > self._most_pending:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def _encode_all(self, images: range) -> list[_Encoded]:
        return [self._encode(image) for image in images]

    def _encode(self, image: int) -> _Encoded:
        data = bytes(self._source.read(image))
        if self._options.max_side_px is None or self._options.quality is None:
            return data, len(data)
        return shrink(data, self._source.name(image), self._options.max_side_px, self._options.quality), len(data)


def _begin(sources: Mapping[str, Source], folder: Path, options: PackOptions) -> Manifest:
    """What is there already, once it is known to be of the same images and options; nothing yet in a new folder."""
    splits = {name: Split(len(source), options.fingerprint(source.fingerprint())) for name, source in sources.items()}
    versions = {
        "hvd_imagenet": __version__,
        "pillow": PIL.__version__,
        "pyarrow": pa.__version__,
        "python": platform.python_version(),
    }
    wanted = Manifest(next(iter(sources.values())).classes, options.as_dict(), versions, splits)
    path = next((folder / name for name in (UNFINISHED, MANIFEST) if (folder / name).exists()), None)
    if path is None:
        if any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise UserError(f"{folder}: is not empty; name another folder, or remove this one first")
        wanted.write(folder / UNFINISHED)
        return wanted
    there = read_manifest(path)
    differences = [
        f"{_option(name, there.options)} there, {_option(name, wanted.options)} here"
        for name in sorted({*there.options, *wanted.options})
        if there.options.get(name) != wanted.options.get(name)
    ]
    if not differences and _identity(there) != _identity(wanted):
        differences = ["its images have other names or classes than those of the source"]
    if differences:
        raise UserError(
            f"{folder}: holds other packed images: {'; '.join(differences)}; "
            "give the same options and source, name another folder, or remove this one first"
        )
    return there


def _option(name: str, options: Mapping[str, int]) -> str:
    words = "--" + name.replace("_", "-")
    return f"{words} {options[name]}" if name in options else f"no {words}"


def _identity(manifest: Manifest) -> tuple[object, ...]:
    return manifest.classes, {name: (split.images, split.fingerprint) for name, split in manifest.splits.items()}


def _pack_split(
    name: str,
    encoder: _Encoder,
    folder: Path,
    manifest: Manifest,
    shard_bytes: int,
    progress: Callable[[int], object],
) -> int:
    """Mends and adds shards until all images of the split are there; returns how many it has packed."""
    split = manifest.splits[name]
    write = partial(_write_shards, folder, name, manifest.classes, encoder, progress)
    first = made = 0
    for index, shard in enumerate(split.shards):
        images = range(first, first + shard.rows)
        first = images.stop
        if has_size(folder / shard.file, shard):
            progress(shard.rows)
            continue
        # One shard of the very images that were in it, for those that follow are there.
        [split.shards[index]] = write(index, images, None)
        manifest.write(folder / UNFINISHED)
        made += shard.rows
    for shard in write(len(split.shards), range(first, split.images), shard_bytes):
        split.shards.append(shard)
        manifest.write(folder / UNFINISHED)
        made += shard.rows
    return made


def _write_shards(
    folder: Path,
    split: str,
    classes: tuple[str, ...],
    encoder: _Encoder,
    progress: Callable[[int], object],
    index: int,
    images: range,
    shard_bytes: int | None,
) -> Iterator[Shard]:
    """Writes images into shards that are numbered from `index`, each of at most so many bytes of images."""
    rows = zip(images, encoder.encoded(images), strict=True)
    waiting = next(rows, None)
    while waiting is not None:
        with ShardWriter(folder / f"{split}-{index:05d}.arrow", classes) as writer:
            while waiting is not None:
                image, (data, source_bytes) = waiting
                if writer.rows and shard_bytes is not None and writer.image_bytes + len(data) > shard_bytes:
                    break
                writer.add(data, int(encoder.labels[image]), bytes(encoder.paths[image]), source_bytes)
                progress(1)
                waiting = next(rows, None)
            yield writer.close()
        index += 1


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps a second process out; the lock ends with the process that holds it, whatever ends that."""
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: another process is packing into it; wait for its end") from error
        except OSError:  # a file system without locks
            pass
        try:
            yield
        finally:
            (folder / _LOCK).unlink(missing_ok=True)
