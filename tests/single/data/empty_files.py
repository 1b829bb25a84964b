"""Folders whose files are empty, for what looks at names alone."""

from pathlib import Path


def touch(root: Path, *files: str) -> Path:
    """Makes empty files below a folder, and returns the folder."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root
