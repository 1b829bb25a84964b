"""The network of a run at its beginning: with the weights of its seed, or with those of a file."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvd_imagenet.checkpoint import read_weights
from hvd_imagenet.communicator import together
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import Session
from hvd_imagenet.torch.network import Network, build_network
from hvd_imagenet.torch.state import copy_into, model_tensors


def begin_network(recipe: Recipe, config: RunConfig, session: Session, device: torch.device) -> Network:
    """The network of a run; call it on all processes together.

    Args:
        recipe: model, seed and normalisation.
        config: dtype, layout, mixed precision, and perhaps the file of the weights to begin with.
        session: its classes and virtual workers.
        device: where it computes.

    Returns:
        The network; rank 0 alone has the file's weights, to be broadcast with all others.

    Raises:
        AgreedError: the file cannot be used; on all processes.
    """
    network = build_network(recipe, config, len(session.train.classes), len(session.workers), device)

    def load() -> None:
        path = config.initial_checkpoint
        if path is not None and session.resumed is None and session.communicator.rank == 0:
            copy_into(model_tensors(network.model), read_weights(path, read_pth), f"--initial-checkpoint {path}")

    together(session.communicator, load)
    return network


def read_pth(path: Path) -> dict[str, np.ndarray]:
    """The weights in a file that torch.save wrote; nothing in it is executed.

    Args:
        path: of the file: a dictionary of tensors by name.

    Returns:
        Arrays by name, float32 or float64, and counters.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged, or holds anything but weights.
    """
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling raises anything
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise ValueError(f"cannot be read as tensors alone ({reason})") from error
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in loaded.items()
    ):
        raise ValueError("holds no plain dictionary of tensors by name")
    for name, tensor in loaded.items():
        if tensor.layout != torch.strided or tensor.dtype not in (torch.float32, torch.float64, torch.int64):
            raise ValueError(f"tensor {name[:60]!r} is {tensor.dtype}, {tensor.layout}, which weights are not")
    return {name: tensor.numpy() for name, tensor in loaded.items()}
