"""Checkpoints onto the disk: all of one or nothing."""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from hvd_imagenet.checkpoint.disk import flush
from hvd_imagenet.checkpoint.format import FOLDER, FORMAT, MANIFEST, Checkpoint, sealed
from hvd_imagenet.checkpoint.generations import KEPT, new_name, retire


def save(run_folder: Path, checkpoint: Checkpoint, keep: int = KEPT) -> Path:
    """Writes a checkpoint into a run folder, all of it or nothing, and drops all but the last ones and the best.

    What was there stays until the new one is on the disk, also one of the same iteration.

    Args:
        run_folder: of the run; the checkpoint goes into its folder `checkpoints`.
        checkpoint: what to write.
        keep: how many checkpoints stay, at least 1, beside the one with the lowest validation error.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: it cannot be written.
        SafetensorError: likewise.

    Example:
        >>> import tempfile
        >>> from hvd_imagenet.checkpoint import load
        >>> tensors = {"model": {"fc.bias": np.ones(3, np.float32)}, "momentum": {}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save(Path(folder), Checkpoint(7, tensors))
        ...     loaded = load(path)
        >>> path.name, loaded.iteration, loaded.tensors["model"]["fc.bias"].tolist()
        ('iteration-00000007', 7, [1.0, 1.0, 1.0])
    """
    parent = run_folder / FOLDER
    # One process writes: what is hidden was left by a save that was killed.
    for left_over in parent.glob(".iteration-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    target = parent / new_name(run_folder, checkpoint.iteration)
    temporary = parent / f".{target.name}.partial"
    temporary.mkdir(parents=True)
    try:
        _write(temporary, checkpoint)
        temporary.rename(target)
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)  # the disk may be full
        raise
    flush(parent)
    flush(run_folder)  # where `parent` may be new
    retire(run_folder, target, keep)
    return target


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    digests = {}
    for part, arrays in checkpoint.tensors.items():
        path = folder / f"{part}.safetensors"
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)
        flush(path)
        digests[path.name] = _sha256(path)
    manifest = sealed({"format": FORMAT, **checkpoint.manifest, "iteration": checkpoint.iteration, "sha256": digests})
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    flush(folder / MANIFEST)
    flush(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
