"""Validation of a checkpoint by itself: what both frameworks do alike before and after it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.communicator import Communicator, together
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.data.listing import Listing, list_dataset
from hvd_imagenet.data.reader import Reader
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import agree


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
        validation: the images.
    """

    path: Path
    what: str
    recipe: Recipe
    config: RunConfig
    part: str
    weights: dict[str, np.ndarray]
    validation: Listing

    def reader(self) -> Reader:
        """Of the validation images."""
        recipe = self.recipe
        return Reader(self.validation, recipe.centre_crop, recipe.image_size_px, recipe.seed, self.config.threads)


def open_checkpoint(path: Path, data: Path, threads: int | None, communicator: Communicator) -> Opened:
    """Reads a checkpoint and lists the images; call it on all processes together.

    Args:
        path: of a checkpoint or a run folder, which every host can read.
        data: holds train/ and val/.
        threads: that decode images in each process; its cores if None.
        communicator: the job's.

    Returns:
        What was opened.

    Raises:
        AgreedError: a mistake of the user, on all processes.
    """

    def read() -> tuple[Checkpoint, Path, Listing]:
        found = checkpoints.find(path)
        checkpoint, validation = checkpoints.load(found), list_dataset(data)[1]
        outputs = len(checkpoint.tensors["model"]["fc.bias"])
        if outputs != len(validation.classes):
            raise UserError(
                f"checkpoint {found} tells {outputs} classes apart, but {data} has {len(validation.classes)}; "
                f"give the data that it was trained on"
            )
        return checkpoint, found, validation

    checkpoint, found, validation = together(communicator, read)
    agree(communicator, f"--data {data}", validation.fingerprint())
    agree(communicator, f"--checkpoint {found}", *checkpoint.manifest["sha256"].values())
    recorded: dict[str, Any] = checkpoint.manifest["recipe"]
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in recorded.items()}
    part = "model_ema" if "model_ema" in checkpoint.tensors else "model"
    weights = checkpoint.tensors[part]
    config = RunConfig(data=data, dtype=str(weights["fc.bias"].dtype), threads=threads)
    return Opened(found, f"checkpoint {found}", Recipe(**fields), config, part, weights, validation)


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
        "val_loss": sums.mean_loss,
        "val_error": sums.error,
        "val_error_top5": sums.error_top5,
        "processes": communicator.size,
    }
