"""A toy model in the adapter, on two ranks that run three virtual workers: rank 0 two of them, rank 1 one."""

from typing import Any

import numpy as np

from hvd_imagenet.core.minibatch import Minibatch

MINIBATCH = Minibatch(size=6, per_worker=2)
IMAGES = 50
LR = 0.5
WEIGHTS = np.array([[1.0, -2.0, 3.0]])
# The gradient of each worker's mean loss; the minibatch's is their mean.
OF_WORKERS = np.array([[3.0, 0.0, 6.0], [-1.0, 5.0, 0.0], [4.0, 1.0, 3.0]])
MEAN = np.array([[2.0, 2.0, 3.0]])


class Toy:
    """Weights, an optimizer in the adapter, and the backward passes of this rank's workers."""

    def __init__(self, kind: str = "SGD", dtype: str = "float64", **options: Any) -> None:
        import horovod.torch as hvd
        import torch

        from hvd_imagenet.torch import DistributedOptimizer

        self.torch = torch
        self.workers = MINIBATCH.placement(hvd.size())[hvd.rank()]
        self.model = torch.nn.Linear(3, 1, bias=False, dtype=getattr(torch, dtype))
        with torch.no_grad():
            self.model.weight.copy_(torch.from_numpy(WEIGHTS))
        adapter = {
            name: options.pop(name) for name in ("schedule", "images", "passes", "compression") if name in options
        }
        inner = getattr(torch.optim, kind)(self.model.parameters(), **{"lr": LR, **options})
        self.optimizer: Any = DistributedOptimizer(inner, self.model.named_parameters(), MINIBATCH, **adapter)

    def backward(self, factor: float = 1.0) -> None:
        for worker in self.workers:
            row = self.torch.from_numpy(OF_WORKERS[worker] * factor).to(self.model.weight.dtype)
            (self.model.weight * row).sum().backward()

    def has(self, expected: np.ndarray, tolerance: float = 1e-14) -> None:
        np.testing.assert_allclose(self.model.weight.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


def rank_of_this_process() -> int:
    import horovod.torch as hvd

    return int(hvd.rank())
