"""Files that are whole on the disk, or not there."""

import os
import shutil
from pathlib import Path


def flush(path: Path) -> None:
    """Waits until a file or a folder's entries are on the disk.

    Args:
        path: of the file or folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Writes a file in place of the one that is there, which stays until the new one is on the disk.

    Args:
        path: of the file.
        text: its contents.
    """
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text)
    flush(temporary)
    temporary.rename(path)
    flush(path.parent)


def remove_folder(path: Path) -> None:
    """Removes a folder so that nobody can find half of it under its name.

    Args:
        path: of the folder; hidden ones of such names are left over where this was interrupted.
    """
    hidden = path.with_name(f".{path.name}.removed")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
