"""Horovod as the trainers' communicator, and what every process must have alike before the first step."""

from typing import Any

import horovod.torch as hvd
import numpy as np
import torch
from horovod.common.exceptions import HorovodInternalError
from horovod.torch.optimizer import _DistributedOptimizer as HorovodOptimizer
from torch import nn

from hvd_imagenet import job
from hvd_imagenet.communicator import decoded, encoded
from hvd_imagenet.heartbeat import during


class HorovodCommunicator:
    """The processes of a Horovod job; hvd.init() must have been called.

    Example:
        >>> hvd.init()
        >>> HorovodCommunicator().sum(np.ones(2)).tolist() == [hvd.size(), hvd.size()]
        True
    """

    def __init__(self) -> None:
        self.rank: int = hvd.rank()
        self.size: int = hvd.size()
        self.local_rank: int = hvd.local_rank()

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The element-wise sum over all processes in float64."""
        tensor = torch.from_numpy(np.array(values, dtype=np.float64))
        with during("waiting for the others"):
            return hvd.allreduce_(tensor, op=hvd.Sum, name="hvd_imagenet.sum").numpy()

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes in the order of their ranks; plain data."""
        data = encoded(value)
        if self.size == 1:
            return decoded([data])
        with during("waiting for the others"):
            lengths = hvd.allgather(torch.tensor([len(data)]), name="hvd_imagenet.gather.lengths").numpy()
            of_ranks = hvd.allgather(torch.from_numpy(data), name="hvd_imagenet.gather.bytes").numpy()
        return decoded(np.split(of_ranks, np.cumsum(lengths)[:-1]))


def broadcast(model: nn.Module, optimizer: torch.optim.Optimizer | None = None, root_rank: int = 0) -> None:
    """Gives every process the weights, buffers and optimizer state of one.

    Args:
        model: changed in place.
        optimizer: likewise, if given.
        root_rank: whose state is taken.

    Example:
        >>> hvd.init()
        >>> broadcast(nn.Linear(2, 1))
    """
    if optimizer is not None:
        _broadcast_optimizer(optimizer, root_rank)
    hvd.broadcast_parameters(model.state_dict(), root_rank=root_rank)


def _broadcast_optimizer(optimizer: torch.optim.Optimizer, root_rank: int) -> None:
    """Call it before the weights are broadcast: a rank without state makes some by a step, moving them."""
    if HorovodCommunicator().gather(any(optimizer.state.values()))[root_rank]:
        if not any(optimizer.state.values()):
            _make_state(optimizer)
    else:
        optimizer.state.clear()  # on the root a step would move the weights that count, and leave decay in the momentum
    states = [optimizer.state.get(each, {}) for group in optimizer.param_groups for each in group["params"]]
    options = [{name: group[name] for name in group if name != "params"} for group in optimizer.param_groups]
    _broadcast_values([*states, *options], root_rank)
    for group, of_root in zip(optimizer.param_groups, options, strict=True):
        group.update(of_root)


def _broadcast_values(mappings: list[dict[str, Any]], root_rank: int) -> None:
    """Replaces the values by those of one process: Horovod's own function for it sends pickles.

    Args:
        mappings: of the same names on every process. Tensors are changed in place; others, which are plain data, or
            tuples of it, are replaced.
        root_rank: whose values are taken.
    """
    values = [(number, name, value) for number, each in enumerate(mappings) for name, value in each.items()]
    tensors = [(f"{name}.{number}", value) for number, name, value in values if torch.is_tensor(value)]
    hvd.broadcast_parameters(tensors, root_rank=root_rank)
    others = [(number, name, value) for number, name, value in values if not torch.is_tensor(value)]
    of_root = HorovodCommunicator().gather([value for _, _, value in others])[root_rank]
    for (number, name, value), theirs in zip(others, of_root, strict=True):
        mappings[number][name] = tuple(theirs) if isinstance(value, tuple) else theirs


def _make_state(optimizer: torch.optim.Optimizer) -> None:
    """What Horovod would do on a rank without state, but in the parameters' own layout: a step of zero gradients."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
    kind = type(optimizer)
    if kind.__module__ == HorovodOptimizer.__module__:
        super(kind, optimizer).step()  # the inner optimizer's: this rank makes the step alone
    else:
        optimizer.step()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def metric_average(total: float, images: int) -> float:
    """The mean of a metric over the images of all processes, weighted by their number.

    Args:
        total: the sum of the metric over this process's images.
        images: their number; may differ between processes and may be 0 on some.

    Returns:
        Sum over all processes / number of images over all processes.

    Example:
        >>> hvd.init()
        >>> metric_average(total=3.0, images=4)
        0.75
    """
    total, count = HorovodCommunicator().sum(np.array([total, images]))
    return float(total / count)


def abort_job_on_exception() -> None:
    """Makes an uncaught exception end the whole job: the other processes would wait for this one for ever.

    Example:
        >>> import sys
        >>> before = sys.excepthook
        >>> abort_job_on_exception()
        >>> sys.excepthook = before
    """
    job.abort_job_on_exception(lambda: (hvd.rank(), hvd.size()) if hvd.is_initialized() else None, HorovodInternalError)
