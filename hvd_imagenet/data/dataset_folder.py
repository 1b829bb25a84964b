"""Writes a data set folder whole or not at all, and remembers what is in it."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from hvd_imagenet.errors import UserError

DESCRIPTION = "dataset.json"
Options = Mapping[str, "str | int"]


def is_finished(folder: Path, options: Options) -> bool:
    """Whether the folder already holds the data set of these options.

    Args:
        folder: of the data set.
        options: all that determines the images.

    Returns:
        True if it is there, False if there is nothing yet.

    Raises:
        UserError: the folder holds something else.

    Example:
        >>> is_finished(Path("/nowhere"), {"source": "digits"})
        False
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a folder that does not exist yet")
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        there = description["options"]
    except (OSError, ValueError, KeyError, TypeError):
        if any(folder.iterdir()):
            raise UserError(f"{folder}: is not empty; name another folder, or remove this one first") from None
        return False
    if there != dict(options):
        raise UserError(
            f"{folder}: holds another data set ({_words(there)}), not {_words(options)}; "
            "name another folder, or remove this one first"
        )
    return True


def write_dataset(folder: Path, options: Options, files: Iterable[tuple[str, bytes]]) -> dict[str, int]:
    """Writes files into a neighbour of `folder` and renames it, so that nobody ever sees half a data set.

    Args:
        folder: to make; missing or empty.
        options: all that determines the images; kept in dataset.json.
        files: relative path and content of each, SPLIT/CLASS/FILE.

    Returns:
        The number of files of each split.

    Raises:
        UserError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     write_dataset(Path(parent) / "d", {"source": "x"}, [("train/a/1.JPEG", b"1"), ("val/a/2.JPEG", b"2")])
        {'train': 1, 'val': 1}
    """
    folder = folder.resolve()
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        counts = _write_files(partial, files)
        description = {"options": dict(options), "images": counts}
        (partial / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
        partial.replace(folder)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); name a folder on a disk with room and write permission"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return counts


def _write_files(root: Path, files: Iterable[tuple[str, bytes]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    made: set[str] = set()
    for path, content in files:
        split, class_name, _ = path.split("/")
        if f"{split}/{class_name}" not in made:
            (root / split / class_name).mkdir(parents=True)
            made.add(f"{split}/{class_name}")
        (root / path).write_bytes(content)
        counts[split] = counts.get(split, 0) + 1
    return counts


def _words(options: Options) -> str:
    return " ".join(f"--{name} {value}" for name, value in options.items())
