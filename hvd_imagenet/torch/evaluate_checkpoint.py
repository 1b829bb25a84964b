"""Validation of a checkpoint by itself."""

from pathlib import Path
from typing import Any

import horovod.torch as hvd

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.communicator import Communicator, together
from hvd_imagenet.data.listing import Listing, fingerprint, list_dataset
from hvd_imagenet.data.reader import Reader
from hvd_imagenet.errors import UserError
from hvd_imagenet.job import in_job
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import agree
from hvd_imagenet.torch.evaluation import evaluate
from hvd_imagenet.torch.network import build_network
from hvd_imagenet.torch.session import choose_device, join_job
from hvd_imagenet.torch.state import copy_into, model_tensors


def evaluate_checkpoint(
    path: Path, data: Path, threads: int | None, launched_size: int | None = None
) -> dict[str, Any] | None:
    """The validation errors of a checkpoint; every process of the job calls it.

    Args:
        path: of a checkpoint or a run folder, which every host can read.
        data: holds train/ and val/.
        threads: that decode images in each process; its cores if None.
        launched_size: processes that the launcher says it has started; None if there was no launcher.

    Returns:
        Plain JSON data on rank 0, None on the others. The running average of the weights is evaluated where the
        checkpoint has one.

    Raises:
        AgreedError: a mistake of the user, on all processes.
    """
    communicator = join_job(launched_size)
    return in_job(communicator, hvd.shutdown, lambda: _evaluate(path, data, threads, communicator))


def _evaluate(path: Path, data: Path, threads: int | None, communicator: Communicator) -> dict[str, Any] | None:
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
    agree(communicator, f"--data {data}", fingerprint(validation))
    agree(communicator, f"--checkpoint {found}", *checkpoint.manifest["sha256"].values())
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in checkpoint.manifest["recipe"].items()}
    recipe = Recipe(**fields)
    dtype = str(checkpoint.tensors["model"]["fc.bias"].dtype)
    config = RunConfig(data=data, dtype=dtype, threads=threads)
    device = together(communicator, lambda: choose_device(communicator.local_rank))
    network = build_network(recipe, config, len(validation.classes), 1, device)
    weights = checkpoint.tensors.get("model_ema", checkpoint.tensors["model"])
    together(communicator, lambda: copy_into(model_tensors(network.model), weights, f"checkpoint {found}"))
    reader = Reader(validation, recipe.centre_crop, recipe.image_size_px, recipe.seed, threads)
    sums = evaluate(network, reader, len(validation), communicator)
    if communicator.rank != 0:
        return None
    return {
        "checkpoint": str(found),
        "weights": "model_ema" if "model_ema" in checkpoint.tensors else "model",
        "images": int(sums.images),
        "val_loss": sums.mean_loss,
        "val_error": sums.error,
        "val_error_top5": sums.error_top5,
        "processes": communicator.size,
    }
