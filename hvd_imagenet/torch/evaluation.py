"""Validation: every image exactly once, on any number of processes."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hvd_imagenet.communicator import Communicator, share
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.data.reader import Reader
from hvd_imagenet.torch.network import Network

_BATCH_IMAGES = 64


def sums_of_batch(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """The differentiable sum of losses, and what is reported of a batch.

    Args:
        logits: (images, classes).
        labels: (images,) int64.
        label_smoothing: in the loss.

    Returns:
        Σ loss, and float64 [images, Σ loss, correct, correct among the top 5], the fields of Sums.

    Example:
        >>> loss, sums = sums_of_batch(torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1]))
        >>> [round(value, 3) for value in sums.tolist()]
        [2.0, 2.254, 1.0, 2.0]
    """
    loss = functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing)
    with torch.no_grad():
        of_label = logits.gather(1, labels[:, None])
        # «not lower or equal» rather than «higher»: a logit that is no number must not count as correct.
        rank = (~(logits <= of_label)).sum(1)
        values = [torch.full((), len(labels), device=logits.device), loss.detach(), (rank < 1).sum(), (rank < 5).sum()]
        return loss, torch.stack([value.double() for value in values])


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on a device, without waiting for the copy where that is a GPU.

    Args:
        array: of the reader.
        device: where it is wanted.

    Returns:
        The tensor; it shares the array's memory on the CPU.

    Example:
        >>> to_device(np.ones(2), torch.device("cpu"))
        tensor([1., 1.], dtype=torch.float64)
    """
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


@torch.no_grad()
def evaluate(network: Network, reader: Reader, images: int, communicator: Communicator) -> Sums:
    """Loss and errors over all validation images; call it on all processes together.

    Args:
        network: its batch normalisation averages must be the same on all processes.
        reader: of the validation images.
        images: how many there are.
        communicator: the job's.

    Returns:
        The sums over all processes, without label smoothing.
    """
    was_training = network.training
    network.eval()
    device = network.mean.device
    total = torch.zeros(4, dtype=torch.float64)
    mine = share(images, communicator)
    batches = np.split(mine, range(_BATCH_IMAGES, len(mine), _BATCH_IMAGES)) if len(mine) else []
    for pixels, labels in reader.batches((np.zeros_like(ids), ids) for ids in batches):
        logits = network(to_device(pixels, device))
        total += sums_of_batch(logits, to_device(labels, device))[1].cpu()
    network.train(was_training)
    return Sums(*communicator.sum(total.numpy()).tolist())
