"""Validation of a checkpoint by itself: what both frameworks do alike before and after it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.communicator import Communicator, together
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.data.evaluation_data import Matched, list_evaluation
from hvd_imagenet.data.images import Images
from hvd_imagenet.data.reader import Reader
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import agree, first_on_each_host


@dataclass(frozen=True)
class Opened:
    """A checkpoint and the images to validate it with, the same on all processes.

    Args:
        path: the checkpoint's folder.
        what: its name, for messages.
        recipe: that it was trained with.
        config: dtype and threads.
        part: of its tensors, model_ema where there is one, else model.
        weights: arrays by name.
        validation: the images, with the network's classes.
        matched: how the images' classes were found among the network's.
    """

    path: Path
    what: str
    recipe: Recipe
    config: RunConfig
    part: str
    weights: dict[str, np.ndarray]
    validation: Images
    matched: Matched

    def reader(self) -> Reader:
        """Of the validation images."""
        recipe = self.recipe
        return Reader(self.validation, recipe.centre_crop, recipe.image_size_px, recipe.seed, self.config.threads)


def open_checkpoint(path: Path, data: Path, threads: int | None, communicator: Communicator) -> Opened:
    """Reads a checkpoint and lists the images; call it on all processes together.

    Args:
        path: of a checkpoint or a run folder, which every host can read.
        data: holds val/, or class folders itself.
        threads: that decode images in each process; its cores if None.
        communicator: the job's.

    Returns:
        What was opened.

    Raises:
        AgreedError: a mistake of the user, on all processes.
    """

    def read() -> tuple[Path, Checkpoint]:
        found = checkpoints.find(path)
        return found, checkpoints.load(found)

    found, checkpoint = together(communicator, read)
    recipe = together(communicator, lambda: _recipe_of(found, checkpoint))
    outputs, trained = len(checkpoint.tensors["model"]["fc.bias"]), checkpoint.manifest.get("classes")

    def list_images() -> tuple[Images, Matched]:
        return list_evaluation(data, outputs, trained, f"checkpoint {found}")

    validation, matched = first_on_each_host(communicator, list_images)
    agree(communicator, f"--data {data}", validation.fingerprint())
    agree(communicator, f"--checkpoint {found}", *checkpoint.manifest["sha256"].values())
    part = "model_ema" if "model_ema" in checkpoint.tensors else "model"
    weights = checkpoint.tensors[part]
    config = RunConfig(data=data, dtype=str(weights["fc.bias"].dtype), threads=threads)
    return Opened(found, f"checkpoint {found}", recipe, config, part, weights, validation, matched)


def _recipe_of(path: Path, checkpoint: Checkpoint) -> Recipe:
    recorded, bias = checkpoint.manifest.get("recipe"), checkpoint.tensors["model"].get("fc.bias")
    if recorded is None or bias is None or bias.ndim != 1:
        raise UserError(f"checkpoint {path}: it has no recipe or no output layer (fc.bias); take one of a training run")
    fields: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in recorded.items()}
    try:
        return Recipe(**fields)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"checkpoint {path}: its recipe is none of this version's ({error}); use the one that wrote it"
        ) from error


def report(opened: Opened, sums: Sums, communicator: Communicator) -> dict[str, Any] | None:
    """What is told of a validation.

    Args:
        opened: of open_checkpoint.
        sums: over all validation images.
        communicator: the job's.

    Returns:
        Plain JSON data on rank 0, None on the others.
    """
    if communicator.rank != 0:
        return None
    return {
        "checkpoint": str(opened.path),
        "weights": opened.part,
        "images": int(sums.images),
        "classes": opened.matched.classes,
        "network_classes": opened.matched.outputs,
        "classes_matched_by": opened.matched.by,
        "val_loss": sums.mean_loss,
        "val_error": sums.error,
        "val_error_top5": sums.error_top5,
        "processes": communicator.size,
    }
