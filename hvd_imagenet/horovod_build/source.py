"""Horovod's source distribution: downloaded through pip, checked, kept."""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from hvd_imagenet.errors import UserError

VERSION = "0.28.1"
SDIST_NAME = f"horovod-{VERSION}.tar.gz"
SDIST_SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"


def cache_root() -> Path:
    """The folder of this program below the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
    # The XDG base directory specification: a relative path is to be ignored.
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "hvd_imagenet"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file.

    Args:
        path: the file, read in pieces.

    Returns:
        64 hexadecimal digits.
    """
    state = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
    return state.hexdigest()


def _pip_complaint(output: str) -> str:
    """The line of pip's output that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip gave no reason"])[-1]


def _download(folder: Path, kept_in: Path) -> Path:
    """Lets pip download the source distribution, from the index that the user's configuration names."""
    requirement = f"horovod=={VERSION}"
    # pip runs the sdist's setup.py for its metadata; without isolation it uses the setuptools that the build needs too.
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-binary", "horovod", "--dest", str(folder), requirement]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    path = folder / SDIST_NAME
    if done.returncode != 0 or not path.is_file():
        raise UserError(
            f"pip could not download {requirement}: {_pip_complaint(done.stdout)}; check the connection and "
            f"`pip config list`, or put {SDIST_NAME} into {kept_in} yourself"
        )
    return path


def fetch_sdist(root: Path | None = None) -> Path:
    """The source distribution of Horovod, from the cache or the package index.

    Args:
        root: the cache folder; `cache_root()` if None.

    Returns:
        The path of a file whose SHA-256 is the expected one.

    Raises:
        UserError: it cannot be downloaded, or what was downloaded is something else.
    """
    kept = (root or cache_root()) / "sdists" / SDIST_NAME
    if kept.is_file() and sha256_of(kept) == SDIST_SHA256:
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        path = _download(Path(folder), kept.parent)
        found = sha256_of(path)
        if found != SDIST_SHA256:
            raise UserError(
                f"the package index gave a {SDIST_NAME} with sha256 {found}, expected {SDIST_SHA256}; "
                "check `pip config list` for the index in use"
            )
        os.replace(path, kept)
    return kept


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpacks the source distribution.

    Args:
        sdist: the .tar.gz file.
        folder: an existing folder.

    Returns:
        The root of the sources within the folder.
    """
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)
    return folder / f"horovod-{VERSION}"
