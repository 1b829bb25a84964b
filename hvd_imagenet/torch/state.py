"""Checkpoints in the neutral format, out of and into a model and its optimizer."""

import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hvd_imagenet import __version__
from hvd_imagenet.checkpoint import check_fits
from hvd_imagenet.data.jpeg import decoder_name
from hvd_imagenet.torch.batch_norm import running_averages
from hvd_imagenet.torch.ema import ModelEma

MOMENTUM_KEY = "momentum_buffer"


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Weights and batch normalisation averages by torchvision's names, the tensors themselves.

    Args:
        model: without Network around it.

    Returns:
        Tensors by name.

    Example:
        >>> sorted(model_tensors(nn.Sequential(nn.BatchNorm2d(4))))
        ['0.bias', '0.running_mean', '0.running_var', '0.weight']
    """
    return {**dict(model.named_parameters()), **running_averages(model)}


def make_momentum_buffers(optimizer: torch.optim.Optimizer) -> None:
    """Gives an optimizer that has made no step yet its buffers, zero and in the layout of the parameters.

    Args:
        optimizer: torch.optim.SGD or the adapter around it; changed in place.

    Example:
        >>> weight = nn.Parameter(torch.ones(2))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> make_momentum_buffers(optimizer)
        >>> optimizer.state[weight]
        {'momentum_buffer': tensor([0., 0.])}
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            optimizer.state[parameter].setdefault(MOMENTUM_KEY, torch.zeros_like(parameter.detach()))


def momentum_buffers(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The buffers u of u ← m·u + g by parameter name; zeros before the first step.

    Args:
        model: whose parameters the optimizer steps.
        optimizer: torch.optim.SGD or the adapter around it.

    Returns:
        Tensors by name.
    """
    return {
        name: optimizer.state[parameter].get(MOMENTUM_KEY, torch.zeros_like(parameter.detach()))
        for name, parameter in model.named_parameters()
    }


def to_numpy(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies on the host, contiguous whatever the layout was.

    Args:
        tensors: by name.

    Returns:
        Arrays by name.

    Example:
        >>> to_numpy({"w": torch.ones(2)})["w"].tolist()
        [1.0, 1.0]
    """
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format).numpy()
        for name, tensor in tensors.items()
    }


def checkpoint_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, ema: ModelEma | None
) -> dict[str, dict[str, np.ndarray]]:
    """The tensors of a checkpoint.

    Args:
        model: without Network around it.
        optimizer: torch.optim.SGD or the adapter around it.
        ema: if there is one.

    Returns:
        "model", "momentum" and perhaps "model_ema": arrays by name.
    """
    tensors = {
        "model": to_numpy(model_tensors(model)),
        "momentum": to_numpy(momentum_buffers(model, optimizer)),
    }
    return tensors if ema is None else {**tensors, "model_ema": to_numpy(ema.tensors)}


@torch.no_grad()
def copy_into(target: dict[str, Tensor], source: dict[str, np.ndarray], what: str) -> None:
    """Copies arrays into tensors of the same names and shapes.

    Args:
        target: tensors by name; changed in place.
        source: arrays by name.
        what: where the arrays come from, for the message.

    Raises:
        UserError: names or shapes differ.

    Example:
        >>> copy_into({"w": torch.zeros(2)}, {"w": np.ones(3)}, "checkpoint c")
        Traceback (most recent call last):
        ...
        hvd_imagenet.errors.UserError: checkpoint c: w has shape (3,), the model wants (2,); \
take the model it was made with
    """
    check_fits({name: tuple(tensor.shape) for name, tensor in target.items()}, source, what)
    for name, tensor in target.items():
        tensor.copy_(torch.from_numpy(source[name]))


def load_into(
    tensors: dict[str, dict[str, np.ndarray]],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: ModelEma | None,
    what: str,
) -> None:
    """Puts a checkpoint's tensors into a model, its optimizer and its running average.

    Args:
        tensors: of the checkpoint.
        model: changed in place.
        optimizer: likewise.
        ema: likewise, if there is one.
        what: the checkpoint's name, for messages.

    Raises:
        UserError: they do not fit.
    """
    copy_into(model_tensors(model), tensors["model"], what)
    make_momentum_buffers(optimizer)
    copy_into(momentum_buffers(model, optimizer), tensors["momentum"], what)
    if ema is not None:
        copy_into(ema.tensors, tensors.get("model_ema", {}), what)


def versions() -> dict[str, Any]:
    """The versions that a checkpoint names.

    Example:
        >>> sorted(versions())
        ['horovod', 'hvd_imagenet', 'image_decoder', 'numpy', 'python', 'torch']
    """
    return {
        "hvd_imagenet": __version__,
        "python": platform.python_version(),
        "image_decoder": decoder_name(),
        **{name: version(name) for name in ("horovod", "numpy", "torch")},
    }
