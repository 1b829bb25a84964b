"""What a folder of packed images says of itself: manifest.json, or unfinished.json while it is being packed."""

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hvd_imagenet.errors import UserError

FORMAT = "hvd-imagenet packed images"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
# The same while shards are missing; a folder that has only this one is not read.
UNFINISHED = "unfinished.json"
SPLITS = ("train", "val")
# Columns of a shard and their Arrow types.
COLUMNS = {"image": "large_binary", "label": "int32", "name": "binary"}
# A name that is a plain file's cannot lead out of the folder.
_SHARD_FILE = re.compile(r"[a-z]+-[0-9]{5,9}\.arrow")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shard:
    """One Arrow file.

    Attributes:
        file: its name in the folder.
        rows: the number of images in it.
        bytes: its size.
        sha256: of the whole file, hexadecimal.
        source_bytes: what its images take in the files that they come from.
    """

    file: str
    rows: int
    bytes: int
    sha256: str
    source_bytes: int


@dataclass
class Split:
    """The training or the validation images.

    Attributes:
        images: their number.
        fingerprint: what a checkpoint stores of them.
        shards: in the images' order; all that are finished.
    """

    images: int
    fingerprint: str
    shards: list[Shard] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """The number of images in the shards."""
        return sum(shard.rows for shard in self.shards)


@dataclass
class Manifest:
    """A folder of packed images.

    Attributes:
        classes: names of the classes; a label is an index into it.
        options: that the images depend on.
        versions: of the software that packed them.
        splits: "train" and "val".
    """

    classes: tuple[str, ...]
    options: dict[str, int]
    versions: dict[str, str]
    splits: dict[str, Split]

    def write(self, path: Path) -> None:
        """Puts the file there whole or not at all, and onto the disk.

        Args:
            path: of the file.

        Raises:
            OSError: it cannot be written.
        """
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)


def read_manifest(path: Path) -> Manifest:
    """Reads manifest.json or unfinished.json.

    Args:
        path: of the file.

    Returns:
        What it says.

    Raises:
        UserError: it cannot be read, is damaged, or is of a later version.
    """
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        if there["format"] != FORMAT:
            raise ValueError
        if there["format_version"] > FORMAT_VERSION:
            raise UserError(
                f"{path}: is of format version {there['format_version']}, newer than {FORMAT_VERSION}, "
                "which this hvd-imagenet reads; update hvd-imagenet, or pack the images anew"
            )
        splits = {name: _split(there["splits"][name]) for name in SPLITS}
        of_text = (*there["classes"], *there["versions"].values())
        if not all(isinstance(text, str) for text in of_text) or not all(map(_is_count, there["options"].values())):
            raise ValueError
        return Manifest(tuple(there["classes"]), there["options"], there["versions"], splits)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend its permissions") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: is damaged; remove the folder and pack the images anew") from error


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder outlive a power failure.

    Args:
        folder: whose entries are meant.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _split(there: dict[str, Any]) -> Split:
    split = Split(there["images"], there["fingerprint"], [Shard(**shard) for shard in there["shards"]])
    for shard in split.shards:
        numbers = (shard.rows, shard.bytes, shard.source_bytes)
        if not (_SHARD_FILE.fullmatch(shard.file) and _DIGEST.fullmatch(shard.sha256) and all(map(_is_count, numbers))):
            raise ValueError
    if not (_is_count(split.images) and split.rows <= split.images and isinstance(split.fingerprint, str)):
        raise ValueError
    return split


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63
