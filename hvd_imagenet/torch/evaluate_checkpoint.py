"""Validation of a checkpoint by itself, in PyTorch."""

from pathlib import Path
from typing import Any

import horovod.torch as hvd

from hvd_imagenet.checkpoint_evaluation import open_checkpoint, report
from hvd_imagenet.communicator import Communicator, together
from hvd_imagenet.job import in_job
from hvd_imagenet.torch.evaluation import evaluate
from hvd_imagenet.torch.network import build_network
from hvd_imagenet.torch.session import choose_device, join_job, set_backends
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
    opened = open_checkpoint(path, data, threads, communicator)
    device = together(communicator, lambda: choose_device(communicator.local_rank))
    set_backends(tf32=opened.config.tf32)
    network = build_network(opened.recipe, opened.config, len(opened.validation.classes), 1, device)
    together(communicator, lambda: copy_into(model_tensors(network.model), opened.weights, opened.what))
    sums = evaluate(network, opened.reader(), len(opened.validation), communicator)
    return report(opened, sums, communicator)
