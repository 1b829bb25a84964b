"""Per-worker batch normalisation: statistics over n images, whatever the minibatch and the number of processes.

n is part of the objective (section 2.3): a loss under batch normalisation depends on the images that share its
statistics, so a virtual worker's n images are normalised by themselves wherever the worker runs. The running
averages take one step an iteration, r ← 0.9·r + 0.1·(1/k)·Σ_j stat_j over all k workers, where the variance is the
mean of the workers' unbiased variances, not the variance of their union. A process knows only its own workers; since
the step is linear in r, the processes' averages may be averaged late, before validation and checkpoints.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from hvd_imagenet.communicator import Communicator
from hvd_imagenet.core.minibatch import positive_integer


class PerWorkerBatchNorm(_BatchNorm):
    """Batch normalisation over n consecutive images of the batch at a time.

    A batch may hold one or more virtual workers; the workers of one iteration may come in one or more batches.
    In evaluation it is plain batch normalisation. Parameters and buffers have the names of nn.BatchNorm2d.

    Args:
        original: whose parameters, buffers, eps and momentum it takes over (the same objects, not copies).
        per_worker: n, images over which statistics are taken.
        local_workers: virtual workers that this process runs in one iteration.

    Raises:
        ValueError: a number is not positive, or the original keeps no running averages by an exponential factor.

    Example:
        >>> layer = PerWorkerBatchNorm(nn.BatchNorm2d(3), per_worker=2, local_workers=2)
        >>> images = torch.randn(4, 3, 5, 5)
        >>> apart = [functional.batch_norm(half, None, None, training=True) for half in images.split(2)]
        >>> torch.allclose(layer(images), torch.cat(apart), atol=1e-6)
        True
    """

    def __init__(self, original: _BatchNorm, per_worker: int, local_workers: int) -> None:
        positive_integer("per_worker", per_worker)
        positive_integer("local_workers", local_workers)
        if original.momentum is None or not original.track_running_stats:
            raise ValueError(
                f"batch normalisation must keep running averages with a momentum, "
                f"not momentum={original.momentum}, track_running_stats={original.track_running_stats}"
            )
        super().__init__(original.num_features, original.eps, original.momentum, original.affine)
        self.weight, self.bias = original.weight, original.bias
        self.running_mean, self.running_var = original.running_mean, original.running_var
        self.num_batches_tracked = original.num_batches_tracked
        self.training = original.training
        self.per_worker = per_worker
        self.local_workers = local_workers
        # A tensor, not a Python number: torch.compile would compile anew for each of its values.
        self.register_buffer("_workers_done", torch.zeros((), dtype=torch.int64), persistent=False)
        self._workers_done = self._workers_done.to(self.running_mean.device)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"input must have 2 dimensions or more, not {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """(workers · n, channels, …) → the same shape."""
        self._check_input_dim(input)
        if not self.training:
            return self._normalise(input, self.running_mean, self.running_var, training=False, momentum=0.0)
        workers, rest = divmod(len(input), self.per_worker)
        if rest:
            raise ValueError(
                f"the batch must be a multiple of per_worker ({self.per_worker}) images in training, not {len(input)}"
            )
        if workers == self.local_workers == 1:
            return self._normalise(input, self.running_mean, self.running_var, training=True, momentum=self.momentum)
        # With a momentum of 1 the buffers receive the statistics themselves.
        means = self.running_mean.new_zeros(workers, self.num_features)
        variances = torch.zeros_like(means)
        outputs = [
            self._normalise(images, means[worker], variances[worker], training=True, momentum=1.0)
            for worker, images in enumerate(input.split(self.per_worker))
        ]
        with torch.no_grad():
            self._average(means.sum(0), variances.sum(0), workers)
        return outputs[0] if workers == 1 else torch.cat(outputs)

    def _normalise(self, images: Tensor, mean: Tensor, variance: Tensor, training: bool, momentum: float) -> Tensor:
        return functional.batch_norm(
            images, mean, variance, self.weight, self.bias, training=training, momentum=momentum, eps=self.eps
        )

    def _average(self, mean_sum: Tensor, variance_sum: Tensor, workers: int) -> None:
        first_of_iteration = self._workers_done % self.local_workers == 0
        # In the averages' own dtype: torch.where of two numbers would round the factor to float32.
        kept = 1.0 - self.momentum * first_of_iteration.to(self.running_mean.dtype)
        self.running_mean.mul_(kept).add_(mean_sum, alpha=self.momentum / self.local_workers)
        self.running_var.mul_(kept).add_(variance_sum, alpha=self.momentum / self.local_workers)
        self._workers_done.add_(workers)


def convert_batch_norm(model: nn.Module, per_worker: int, local_workers: int) -> nn.Module:
    """Replaces every batch normalisation of a model by the per-worker kind, found by module type.

    Parameters stay the same objects, so an optimizer made before stays valid.

    Args:
        model: changed in place.
        per_worker: n, images over which statistics are taken.
        local_workers: virtual workers that this process runs in one iteration: len(placement[rank]).

    Returns:
        The model, or the layer in its place if the model itself is one.

    Raises:
        ValueError: the model has a SyncBatchNorm, whose statistics depend on the number of processes.

    Example:
        >>> model = convert_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), 32, 2)
        >>> type(model[1]).__name__
        'PerWorkerBatchNorm'
    """
    if isinstance(model, nn.SyncBatchNorm):
        raise ValueError("model must not have SyncBatchNorm: its statistics would depend on the number of processes")
    if isinstance(model, _BatchNorm):
        return PerWorkerBatchNorm(model, per_worker, local_workers)
    for name, child in model.named_children():
        converted = convert_batch_norm(child, per_worker, local_workers)
        if converted is not child:
            setattr(model, name, converted)
    return model


def running_averages(model: nn.Module) -> dict[str, Tensor]:
    """The running means and variances of a model by name.

    Args:
        model: any.

    Returns:
        The buffers themselves.

    Example:
        >>> sorted(running_averages(nn.Sequential(nn.BatchNorm2d(4))))
        ['0.running_mean', '0.running_var']
    """
    return {
        f"{prefix}.{name}".lstrip("."): getattr(module, name)
        for prefix, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
        for name in ("running_mean", "running_var")
    }


def average_over_processes(averages: dict[str, Tensor], share: float, communicator: Communicator) -> None:
    """Replaces every process's running averages by the mean over all workers; call it on all processes together.

    Args:
        averages: of running_averages; changed in place.
        share: of the workers that this process runs, local workers / k; the shares of all processes sum to 1.
        communicator: the job's.

    Example:
        >>> from hvd_imagenet.communicator import SingleProcess
        >>> mean = torch.ones(2)
        >>> average_over_processes({"bn.running_mean": mean}, share=1.0, communicator=SingleProcess())
        >>> mean
        tensor([1., 1.])
    """
    if communicator.size == 1 or not averages:
        return
    flat = torch.cat([tensor.detach().reshape(-1).double() for tensor in averages.values()])
    summed = torch.from_numpy(communicator.sum(np.asarray(share * flat.cpu().numpy())))
    parts = summed.split([tensor.numel() for tensor in averages.values()])
    with torch.no_grad():
        for tensor, part in zip(averages.values(), parts, strict=True):
            tensor.copy_(part.reshape(tensor.shape))
