"""Validation of a checkpoint by itself, in Keras."""

from pathlib import Path
from typing import Any

import horovod.tensorflow as hvd
import keras

from hvd_imagenet.checkpoint_evaluation import open_checkpoint, report
from hvd_imagenet.communicator import Communicator, share, together
from hvd_imagenet.job import in_job
from hvd_imagenet.keras.evaluation import evaluate, validation_batches
from hvd_imagenet.keras.network import build_network
from hvd_imagenet.keras.session import choose_device, join_job, set_backends
from hvd_imagenet.keras.variables import copy_into, model_variables


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
    together(communicator, lambda: choose_device(communicator.local_rank))
    opened = open_checkpoint(path, data, threads, communicator)
    keras.config.set_floatx(opened.config.dtype)
    set_backends(tf32=opened.config.tf32)
    network = build_network(opened.recipe, opened.config, len(opened.validation.classes), 1)
    together(communicator, lambda: copy_into(model_variables(network.model), opened.weights, opened.what))
    mine = validation_batches(opened.reader(), share(len(opened.validation), communicator))
    return report(opened, evaluate(network, mine, communicator), communicator)
