"""The cache of built wheels: a folder for each key, put in place whole, checked when read."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from hvd_imagenet.horovod_build.source import sha256_of

_RECORD_NAME = "wheel.json"


class CorruptWheelError(Exception):
    """A cached wheel is not what was put into the cache."""


def wheel_folder(root: Path, key: str) -> Path:
    """Where the wheel with this key lies."""
    return root / "wheels" / key


def load(root: Path, key: str) -> Path | None:
    """The cached wheel of a build.

    Args:
        root: the cache folder.
        key: of the build's inputs.

    Returns:
        The path of the wheel, or None where there is none.

    Raises:
        CorruptWheelError: there is one, and it is damaged or incomplete.
    """
    folder = wheel_folder(root, key)
    if not folder.is_dir():
        return None
    try:
        record = json.loads((folder / _RECORD_NAME).read_text(encoding="utf-8"))
        wheel = folder / Path(record["wheel"]).name
        expected = record["sha256"]
        found = sha256_of(wheel)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptWheelError(f"{folder}: {error}") from error
    if found != expected:
        raise CorruptWheelError(f"{wheel}: sha256 is {found}, was {expected} when it was built")
    return wheel


def load_compiled(root: Path, compiled_key: str) -> Path | None:
    """A cached wheel that differs in Python files alone.

    Args:
        root: the cache folder.
        compiled_key: of the build's inputs.

    Returns:
        The path of a wheel that is whole, the newest of them, or None where there is none.
    """
    records = (root / "wheels").glob(f"*/{_RECORD_NAME}")
    for record in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            if json.loads(record.read_text(encoding="utf-8")).get("compiled") == compiled_key:
                return load(root, record.parent.name)
        except (OSError, ValueError, AttributeError, CorruptWheelError):
            continue
    return None


def store(root: Path, key: str, wheel: Path, compiled_key: str) -> Path:
    """Puts a wheel into the cache, in place of any that has its key.

    Args:
        root: the cache folder, made if it is missing.
        key: of the build's inputs.
        wheel: the file to copy.
        compiled_key: what `load_compiled` finds it by.

    Returns:
        The path of the copy.
    """
    folder = wheel_folder(root, key)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made beside its place, then renamed: a build that is interrupted leaves no half of a wheel under its key.
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as made:
        new = Path(made) / key
        new.mkdir()
        shutil.copyfile(wheel, new / wheel.name)
        record = {"wheel": wheel.name, "sha256": sha256_of(new / wheel.name), "compiled": compiled_key}
        (new / _RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            os.replace(folder, Path(made) / "old")
        os.replace(new, folder)
    return folder / wheel.name
