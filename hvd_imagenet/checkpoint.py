"""Checkpoints: one format for both frameworks and any number of processes.

A checkpoint is a folder `iteration-00000123` with safetensors files and `manifest.json`. Tensors carry torchvision's
names and layouts (OIHW, out × in) and are the run's dtype, float32 unless asked otherwise: `model.safetensors` holds
weights and batch normalisation averages, `momentum.safetensors` the buffers of PyTorch's form (u ← m·u + g),
`model_ema.safetensors` the running average of the weights if there is one. The manifest holds the iteration, the
learning rate of the last step, the recipe and its hash, the fingerprint of the data, the sums of the epoch in
progress, versions, and the SHA-256 of every file. It is written under another name, flushed to the disk and renamed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from hvd_imagenet.errors import UserError

FORMAT = 1
MANIFEST = "manifest.json"
FOLDER = "checkpoints"
_KEPT = 3
_REQUIRED_PARTS = ("model", "momentum")


@dataclass
class Checkpoint:
    """What a run needs to go on, on any number of processes and in either framework.

    Args:
        iteration: iterations done; the run goes on with this one, counted from 0.
        tensors: "model", "momentum" and perhaps "model_ema": arrays by parameter name.
        manifest: everything else, as plain JSON data.
    """

    iteration: int
    tensors: dict[str, dict[str, np.ndarray]]
    manifest: dict[str, Any] = field(default_factory=dict)


def save(run_folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint into a run folder, all of it or nothing, and drops all but the last three.

    Args:
        run_folder: of the run; the checkpoint goes into its folder `checkpoints`.
        checkpoint: what to write.

    Returns:
        The checkpoint's folder.

    Example:
        >>> import tempfile
        >>> tensors = {"model": {"fc.bias": np.ones(3, np.float32)}, "momentum": {}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save(Path(folder), Checkpoint(7, tensors))
        ...     loaded = load(path)
        >>> path.name, loaded.iteration, loaded.tensors["model"]["fc.bias"].tolist()
        ('iteration-00000007', 7, [1.0, 1.0, 1.0])
    """
    parent = run_folder / FOLDER
    target = parent / f"iteration-{checkpoint.iteration:08d}"
    temporary = parent / f".{target.name}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    digests = {}
    for part, arrays in checkpoint.tensors.items():
        path = temporary / f"{part}.safetensors"
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)
        _flush(path)
        digests[path.name] = _sha256(path)
    manifest = {"format": FORMAT, **checkpoint.manifest, "iteration": checkpoint.iteration, "sha256": digests}
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    _flush(temporary / MANIFEST)
    _flush(temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    _flush(parent)
    for old in _all(run_folder)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def latest(run_folder: Path) -> Path | None:
    """The newest checkpoint of a run.

    Args:
        run_folder: of the run; need not exist.

    Returns:
        Its folder, or None if there is none.

    Example:
        >>> latest(Path("/nowhere")) is None
        True
    """
    found = _all(run_folder)
    return found[-1] if found else None


def find(path: Path) -> Path:
    """The checkpoint that a user means by a path: a checkpoint's folder, or a run's, of which the newest.

    Args:
        path: as the user wrote it.

    Returns:
        The checkpoint's folder.

    Raises:
        UserError: there is none.

    Example:
        >>> find(Path("/nowhere"))
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.UserError: checkpoint /nowhere: no such folder
    """
    if not path.exists():
        raise UserError(f"checkpoint {path}: no such folder")
    found = path if (path / MANIFEST).is_file() else latest(path)
    if found is None:
        raise UserError(
            f"checkpoint {path}: neither a checkpoint (no {MANIFEST}) nor a run folder with {FOLDER}/iteration-*"
        )
    return found


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, without its tensors.

    Args:
        path: the checkpoint's folder.

    Returns:
        The manifest.

    Raises:
        UserError: it cannot be read, or is of another format.
    """
    try:
        manifest: dict[str, Any] = dict(json.loads((path / MANIFEST).read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"checkpoint {path}: {MANIFEST} cannot be read ({error}); take another checkpoint") from error
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"checkpoint {path}: format {manifest.get('format')!r}, this version reads {FORMAT}; "
            f"use the version of hvd_imagenet that wrote it"
        )
    return manifest


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint and checks every file against the manifest.

    Args:
        path: the checkpoint's folder.

    Returns:
        The checkpoint.

    Raises:
        UserError: a file is missing or damaged.
    """
    manifest = read_manifest(path)
    digests = manifest["sha256"]
    missing = [part for part in _REQUIRED_PARTS if f"{part}.safetensors" not in digests]
    if missing:
        raise UserError(f"checkpoint {path}: {MANIFEST} lists no {missing[0]}.safetensors; take another checkpoint")
    tensors = {}
    for name, expected in digests.items():
        file = path / name
        if not file.is_file():
            raise UserError(f"checkpoint {path}: {name} is missing; take another checkpoint")
        if _sha256(file) != expected:
            raise UserError(f"checkpoint {path}: {name} is damaged (its SHA-256 differs); take another checkpoint")
        tensors[file.stem] = load_file(file)
    return Checkpoint(manifest["iteration"], tensors, manifest)


def check_fits(shapes: Mapping[str, tuple[int, ...]], source: Mapping[str, np.ndarray], what: str) -> None:
    """Checks that arrays have the names and shapes of a model.

    Args:
        shapes: the model's, in PyTorch's layouts.
        source: arrays by name.
        what: where the arrays come from, for the message.

    Raises:
        UserError: they differ.

    Example:
        >>> check_fits({"w": (2,)}, {"w": np.ones(3)}, "checkpoint c")
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.UserError: checkpoint c: w has shape (3,), the model wants (2,); \
take the model it was made with
    """
    different = sorted(set(shapes) ^ set(source))
    if different:
        owner = "the model has no" if different[0] in source else "it lacks the model's"
        raise UserError(f"{what}: {owner} {different[0]}; take the model it was made with")
    for name, shape in shapes.items():
        if shape != source[name].shape:
            raise UserError(
                f"{what}: {name} has shape {source[name].shape}, the model wants {shape}; "
                f"take the model it was made with"
            )


def _all(run_folder: Path) -> list[Path]:
    return sorted(path.parent for path in (run_folder / FOLDER).glob(f"iteration-*/{MANIFEST}"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    """Waits until a file or a folder's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
