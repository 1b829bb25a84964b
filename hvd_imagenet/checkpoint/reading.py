"""Checkpoints from the disk: each file is checked against the manifest before anything is made of it."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from hvd_imagenet.checkpoint.format import MANIFEST, Checkpoint, DamagedError, damaged, parse_manifest
from hvd_imagenet.checkpoint.generations import generations
from hvd_imagenet.checkpoint.tensor_files import arrays_of, weights_of
from hvd_imagenet.errors import UserError

_WEIGHTS = ("model.safetensors", "momentum.safetensors", "model_ema.safetensors")


class Found(NamedTuple):
    """A checkpoint to go on from.

    Args:
        path: its folder; None if there is none.
        checkpoint: its contents; None likewise.
        warning: what the user must know of newer ones, one line; None if nothing.
    """

    path: Path | None = None
    checkpoint: Checkpoint | None = None
    warning: str | None = None


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, without its tensors.

    Args:
        path: the checkpoint's folder.

    Returns:
        The manifest.

    Raises:
        DamagedError: it cannot be read.
        UserError: it is of another format.
    """
    what = f"checkpoint {path}"
    try:
        text = (path / MANIFEST).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(what, f"{MANIFEST} cannot be read ({error})") from error
    return parse_manifest(text, what)


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint and checks every file against the manifest.

    Args:
        path: the checkpoint's folder.

    Returns:
        The checkpoint.

    Raises:
        DamagedError: a file is missing or damaged.
        UserError: it is of another format.
    """
    manifest = read_manifest(path)
    what = f"checkpoint {path}"
    tensors = {}
    for name, expected in manifest["sha256"].items():
        file = path / name
        if not file.is_file():
            raise damaged(what, f"{name} is missing")
        try:
            content = file.read_bytes()
        except OSError as error:
            raise damaged(what, f"{name} cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise damaged(what, f"{name} is damaged (its SHA-256 differs)")
        try:
            tensors[file.stem] = weights_of(content) if name in _WEIGHTS else arrays_of(content)
        except ValueError as error:
            raise damaged(what, f"{name}: {error}") from error
    return Checkpoint(manifest["iteration"], tensors, manifest)


def newest_readable(run_folder: Path) -> Found:
    """The newest checkpoint of a run that is as it was written.

    Args:
        run_folder: of the run; need not exist.

    Returns:
        The checkpoint, with a warning if a newer one is damaged; nothing if the run has none.

    Raises:
        UserError: the run has checkpoints, but none can be read, or one is of another format.

    Example:
        >>> newest_readable(Path("/nowhere"))
        Found(path=None, checkpoint=None, warning=None)
    """
    found, troubles = generations(run_folder)[::-1], []
    for path in found:
        try:
            checkpoint = load(path)
        except DamagedError as error:
            troubles.append(str(error))
            continue
        return Found(path, checkpoint, _fallback(troubles, path, checkpoint.iteration) if troubles else None)
    if troubles:
        raise UserError(
            f"run folder {run_folder}: none of its {len(found)} checkpoints can be read: {_first(troubles)}; "
            f"start anew with another --out"
        )
    return Found()


def _first(troubles: list[str]) -> str:
    more = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
    return troubles[0].removesuffix("; take another checkpoint") + more


def _fallback(troubles: list[str], path: Path, iteration: int) -> str:
    return f"{_first(troubles)}; going on from the one before it, {path}, at iteration {iteration}"
