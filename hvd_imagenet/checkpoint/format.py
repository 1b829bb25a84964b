"""What a checkpoint is, and what its manifest must say."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.errors import UserError

FORMAT = 2
MANIFEST = "manifest.json"
FOLDER = "checkpoints"
REQUIRED_PARTS = ("model", "momentum")
_MAX_ITERATION = 10**15
_OWN_DIGEST = "manifest_sha256"
_FILE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\.safetensors")
_SUMS = {each.name for each in fields(Sums)}
_DIGEST = re.compile(r"[0-9a-f]{64}")


class DamagedError(UserError):
    """A checkpoint is not as it was written; an older one may still be."""


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


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with its own SHA-256, so that a changed digit in it is found too.

    Args:
        manifest: plain JSON data; a digest that it has already is replaced.

    Returns:
        The same with the digest.

    Example:
        >>> sorted(sealed({"iteration": 7}))
        ['iteration', 'manifest_sha256']
    """
    bare = {name: value for name, value in manifest.items() if name != _OWN_DIGEST}
    return {**bare, _OWN_DIGEST: _digest(bare)}


def _digest(manifest: Mapping[str, Any]) -> str:
    # Parsed and written again, so that tuples and lists are the same.
    plain = json.loads(json.dumps(manifest))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def parse_manifest(text: str, what: str) -> dict[str, Any]:
    """Reads a manifest and checks it, whoever wrote it.

    Args:
        text: of the file.
        what: the checkpoint's name, for messages.

    Returns:
        The manifest.

    Raises:
        DamagedError: it is not as it was written.
        UserError: it is of another format.

    Example:
        >>> parse_manifest("[]", "checkpoint c")
        Traceback (most recent call last):
        ...
        hvd_imagenet.checkpoint.format.DamagedError: checkpoint c: manifest.json is no JSON object; \
take another checkpoint
    """
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(what, f"{MANIFEST} cannot be read ({error or 'it is nested too deeply'})") from error
    if not isinstance(manifest, dict):
        raise damaged(what, f"{MANIFEST} is no JSON object")
    _check_digest(manifest.pop(_OWN_DIGEST, None), manifest, what)
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{what}: format {_shown(manifest.get('format'))}, this version reads {FORMAT}; "
            f"use the version of hvd_imagenet that wrote it"
        )
    for name, rule in {**_RULES, **{name: rule for name, rule in _OPTIONAL_RULES.items() if name in manifest}}.items():
        if not rule(manifest.get(name)):
            raise damaged(what, f"{MANIFEST} has {name} {_shown(manifest.get(name))}, which no checkpoint has")
    missing = [part for part in REQUIRED_PARTS if f"{part}.safetensors" not in manifest["sha256"]]
    if missing:
        raise damaged(what, f"{MANIFEST} lists no {missing[0]}.safetensors")
    return manifest


def _check_digest(own: object, manifest: Mapping[str, Any], what: str) -> None:
    """Before anything is believed of it, its format too; but a manifest of another format may have no digest."""
    if own is None and manifest.get("format") != FORMAT:
        return
    try:
        intact = own == _digest(manifest)
    except (ValueError, RecursionError):  # a number or a depth that can be read but not written
        intact = False
    if not intact:
        raise damaged(what, f"{MANIFEST} is damaged (its SHA-256 differs)")


def damaged(what: str, how: str) -> DamagedError:
    """The error for a checkpoint that is not as it was written.

    Args:
        what: the checkpoint's name.
        how: what is wrong with it.

    Returns:
        To be raised; the message is one line.

    Example:
        >>> str(damaged("checkpoint c", "model.safetensors is missing"))
        'checkpoint c: model.safetensors is missing; take another checkpoint'
    """
    return DamagedError(f"{what}: {' '.join(how.split())}; take another checkpoint")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _MAX_ITERATION


def _is_number(value: object) -> bool:
    return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < _MAX_ITERATION)


def _are_digests(value: object) -> bool:
    # A name that is a plain file's cannot lead out of the folder.
    return isinstance(value, dict) and all(
        _FILE_NAME.fullmatch(name) and isinstance(digest, str) and _DIGEST.fullmatch(digest)
        for name, digest in value.items()
    )


def _are_bad_images(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list)
        and len(row) == 3
        and _is_count(row[0])
        and isinstance(row[1], str)
        and isinstance(row[2], str)
        for row in value
    )


def _are_sums(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == _SUMS and all(map(_is_number, value.values()))


def _are_names(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


_RULES: dict[str, Callable[[Any], bool]] = {"iteration": _is_count, "sha256": _are_digests}
_OPTIONAL_RULES: dict[str, Callable[[Any], bool]] = {
    "lr": _is_number,
    "recipe": lambda value: isinstance(value, dict),
    "recipe_hash": lambda value: isinstance(value, str),
    "data_fingerprint": lambda value: isinstance(value, str),
    "classes": _are_names,
    "epoch_sums": _are_sums,
    "epochs_done": _is_count,
    "bad_images": _are_bad_images,
    "nonfinite": lambda value: isinstance(value, list) and all(map(_is_count, value)),
    "validation_due": lambda value: isinstance(value, bool),
    "framework": lambda value: value in ("torch", "keras"),
    "val_error": lambda value: value is None or _is_number(value),
}


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


def check_can_go_on(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raises UserError unless a manifest has all that a run needs to go on.

    Args:
        path: of the checkpoint, for the message.
        manifest: of parse_manifest.

    Raises:
        UserError: something is missing.

    Example:
        >>> check_can_go_on(Path("c"), {"lr": 0.1})
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.UserError: checkpoint c: manifest.json has no recipe; it is no training run's
    """
    for name in ("lr", "recipe", "recipe_hash", "data_fingerprint", "epoch_sums", "epochs_done"):
        if name not in manifest:
            raise UserError(f"checkpoint {path}: {MANIFEST} has no {name}; it is no training run's")
