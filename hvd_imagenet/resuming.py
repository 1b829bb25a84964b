"""Which checkpoint a run goes on from, and whether it is one of this run."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Found, check_can_go_on
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RESUME_AUTO, RESUME_NEVER, RunConfig


def choose_checkpoint(config: RunConfig) -> Found:
    """The checkpoint that a run goes on from, verified.

    Where the newest one of the run folder is damaged, `--resume auto` takes the one before it; a checkpoint that was
    asked for by its path must be whole.

    Args:
        config: its out and resume.

    Returns:
        The checkpoint; nothing for a start from the beginning.

    Raises:
        UserError: a path without a whole checkpoint, or a run folder in the way of `--resume never`.

    Example:
        >>> choose_checkpoint(RunConfig(data=Path("d"), resume="never")).path is None
        True
    """
    if config.resume == RESUME_AUTO:
        return checkpoints.newest_readable(config.out) if config.out else Found()
    if config.out and checkpoints.latest(config.out) is not None:
        raise UserError(
            f"--out {config.out} holds a run already; go on with it (--resume auto) or choose another folder"
        )
    if config.resume == RESUME_NEVER:
        return Found()
    path = checkpoints.find(Path(config.resume))
    return Found(path, checkpoints.load(path))


def check_same_run(path: Path, manifest: Mapping[str, Any], recipe: Recipe, data_fingerprint: str) -> None:
    """Raises UserError unless a checkpoint belongs to this recipe and data.

    Args:
        path: of the checkpoint, for the message.
        manifest: the checkpoint's.
        recipe: of the run that would go on from it.
        data_fingerprint: of the training images.

    Raises:
        UserError: it is of another model, recipe or data; the message names the difference.

    Example:
        >>> there = json.loads(json.dumps({**asdict(Recipe()), "seed": 7}))
        >>> manifest = {"recipe": there, "recipe_hash": "", "data_fingerprint": ""}
        >>> manifest |= {"lr": 0.1, "epoch_sums": {}, "epochs_done": 0}
        >>> check_same_run(Path("c"), manifest, Recipe(), "")
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.UserError: checkpoint c is of another recipe: seed 7 there, 0 here; \
use the same options, or start anew with another --out
    """
    check_can_go_on(path, manifest)
    if manifest["recipe_hash"] != recipe.hash:
        here, usual = (json.loads(json.dumps(asdict(each))) for each in (recipe, Recipe()))
        there = usual | manifest["recipe"]  # of an earlier version, without the fields that came later
        differences = [
            f"{name} {there[name]} there, {value} here" for name, value in here.items() if there[name] != value
        ]
        what = "model" if there["model"] != recipe.model else "recipe"
        raise UserError(
            f"checkpoint {path} is of another {what}: {'; '.join(differences)}; "
            f"use the same options, or start anew with another --out"
        )
    if manifest["data_fingerprint"] != data_fingerprint:
        raise UserError(
            f"checkpoint {path} is of other data: the names or classes of the training images differ; "
            f"give the same --data and --train-list, or start anew with another --out"
        )
