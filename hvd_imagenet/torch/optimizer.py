"""The adapter for a PyTorch loop: Horovod's own optimizer, with the paper's normalisation and schedule."""

from collections.abc import Callable, Iterable
from typing import Any

import horovod.torch as hvd
import torch
from horovod.torch.optimizer import _DistributedOptimizer as HorovodOptimizer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hvd_imagenet.core.minibatch import Minibatch, positive_integer
from hvd_imagenet.core.schedules import Schedule
from hvd_imagenet.heartbeat import during


def parameter_groups(
    model: nn.Module, weight_decay: float, batch_norm_weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Two groups: weight decay on everything except the γ and β of batch normalisation (section 5.1).

    Args:
        model: whose parameters to group, by module type; no name tells that `downsample.1` is one.
        weight_decay: λ.
        batch_norm_weight_decay: λ of γ and β; 0 in the paper.

    Returns:
        Groups for any torch.optim optimizer, in the order of model.parameters().

    Example:
        >>> groups = parameter_groups(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), 1e-4)
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(2, 0.0001), (2, 0.0)]
    """
    normalising = {
        parameter
        for module in model.modules()
        if isinstance(module, _BatchNorm)
        for parameter in module.parameters(recurse=False)
    }
    parameters = list(model.parameters())
    return [
        {"params": [each for each in parameters if each not in normalising], "weight_decay": weight_decay},
        {"params": [each for each in parameters if each in normalising], "weight_decay": batch_norm_weight_decay},
    ]


def clip_gradients(parameters: Iterable[Tensor], largest_norm: float) -> None:
    """Scales the gradients down to a global norm of at most largest_norm, exactly, as Keras does.

    torch.nn.utils.clip_grad_norm_ divides by norm + 1e-6, which grows to another run in some tens of iterations.

    Args:
        parameters: whose gradients are changed in place.
        largest_norm: above 0.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> clip_gradients([weight], largest_norm=0.5)
        >>> weight.grad
        tensor([0.3000, 0.4000])
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (largest_norm / norm).clamp(max=1.0))


class LearningRate(torch.optim.lr_scheduler.LRScheduler):
    """The core's schedules in the shape of torch.optim.lr_scheduler: call step() after every optimizer.step().

    Args:
        optimizer: whose groups all get the schedule's value.
        schedule: from fractional epochs to η.
        minibatch: kn and n.
        images: N, number of training images.

    Example:
        >>> from hvd_imagenet.core.schedules import gradual_warmup
        >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.0)
        >>> scheduler = LearningRate(optimizer, gradual_warmup(0.1, 0.4, 3), Minibatch(64, 32), images=64)
        >>> for iteration in range(2):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> round(optimizer.param_groups[0]["lr"], 6)
        0.3
    """

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Schedule, minibatch: Minibatch, images: int) -> None:
        self._lr_of_iteration = lr_of_iteration(schedule, minibatch, images)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """η of the coming iteration, for every group."""
        return [self._lr_of_iteration(self.last_epoch) for _ in self.optimizer.param_groups]


def lr_of_iteration(schedule: Schedule, minibatch: Minibatch, images: int) -> Callable[[int], float]:
    """η as a function of the iteration.

    Args:
        schedule: from fractional epochs to η.
        minibatch: kn and n.
        images: N, number of training images.

    Returns:
        A function of t, counted from 0.

    Example:
        >>> from hvd_imagenet.core.schedules import step_decay
        >>> lr_of_iteration(step_decay(0.5, (1,)), Minibatch(32, 32), images=64)(2)
        0.05
    """
    return lambda iteration: schedule(minibatch.progress_epochs(iteration, images))


class _Overrides:
    """What this package adds to Horovod's optimizer; its functions become those of the dynamic class."""

    def synchronize(self) -> None:
        """Waits until the gradients are summed over all processes, and divides them by k."""
        if self._synchronized:
            return
        with during("reducing gradients"):
            HorovodOptimizer.synchronize(self)
        gradients = [each.grad for group in self.param_groups for each in group["params"] if each.grad is not None]
        for gradient in gradients:
            if gradient.is_sparse:
                gradient.mul_(1.0 / self.minibatch.workers)
        dense = [gradient for gradient in gradients if not gradient.is_sparse]
        if dense and self.minibatch.workers > 1:
            torch._foreach_mul_(dense, 1.0 / self.minibatch.workers)

    def _note_backward(self) -> None:
        """A new gradient has not been reduced, even if step() never followed the last synchronize()."""
        self._synchronized = False

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Sets η, then steps with the reduced gradient; reduces first unless synchronize() was called."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._should_synchronize:
            self.synchronize()
        if self._lr_of_iteration is not None:
            for group in self.param_groups:
                group["lr"] = self._lr_of_iteration(self.iteration)
        with self.skip_synchronize():
            HorovodOptimizer.step(self)
        self.iteration += 1
        return loss

    def skip_step(self) -> None:
        """Passes over a step after synchronize(): η moves on with the iteration, weights and momentum stay."""
        if self._lr_of_iteration is not None:
            for group in self.param_groups:
                group["lr"] = self._lr_of_iteration(self.iteration)
        self.iteration += 1

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients, or zeroes them where they are."""
        if self._handles:
            raise RuntimeError(
                "zero_grad() must not come between backward() and step() or synchronize(): "
                "the gradients are being reduced"
            )
        self._synchronized = False
        torch.optim.Optimizer.zero_grad(self, set_to_none)

    @property
    def iteration(self) -> int:
        """The coming step's t; part of state_dict(), set it to the stream's when a run is resumed."""
        return self.param_groups[0]["iteration"]

    @iteration.setter
    def iteration(self, value: int) -> None:
        for group in self.param_groups:
            group["iteration"] = value


def DistributedOptimizer(
    optimizer: torch.optim.Optimizer,
    named_parameters: Iterable[tuple[str, Tensor]],
    minibatch: Minibatch,
    schedule: Schedule | None = None,
    images: int | None = None,
    passes: int | None = None,
    compression: Any = hvd.Compression.none,
) -> torch.optim.Optimizer:
    """Makes an optimizer reduce its gradients over all processes and step by the gradient of the whole minibatch.

    The gradient is (1/kn) Σ over the kn images (section 3, remark 3), however the k virtual workers are placed.
    For that, the losses of the backward passes of one step must add up to Σ loss / n over this process's images:
    with one pass a worker that is the usual mean over its n images. They are reduced with Sum while backprop runs,
    in place and fused, by Horovod's own optimizer, and divided by k. Weight decay is the inner optimizer's, added
    after the reduction. For clipping or unscaling call synchronize() before it.

    Args:
        optimizer: any torch.optim optimizer; its groups and defaults are taken over, not its state.
        named_parameters: model.named_parameters().
        minibatch: kn and n.
        schedule: from fractional epochs to η, set before every step; None leaves the groups' lr alone.
        images: N, number of training images; needed with a schedule.
        passes: backward passes of this process before a step; one for each of its virtual workers if None.
        compression: hvd.Compression.none or .fp16.

    Returns:
        An optimizer of the same class with synchronize(), skip_synchronize(), skip_step() and iteration.

    Raises:
        ValueError: a schedule without images, more processes than workers, or what Horovod refuses.

    Example:
        >>> hvd.init()
        >>> model = nn.Linear(2, 1)
        >>> inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> optimizer = DistributedOptimizer(inner, model.named_parameters(), Minibatch(64, 32))
        >>> isinstance(optimizer, torch.optim.SGD)
        True
    """
    if schedule is not None and images is None:
        raise ValueError("images must be given with a schedule: progress in epochs is t·kn/images")
    local_workers = len(minibatch.placement(hvd.size())[hvd.rank()])
    positive_integer("passes", local_workers if passes is None else passes)
    # The same way in which Horovod mixes itself into a class: its methods call super(self.__class__, self).
    body = {**HorovodOptimizer.__dict__, **{k: v for k, v in vars(_Overrides).items() if not k.startswith("__")}}
    distributed_class = type(type(optimizer).__name__, (type(optimizer),), body)
    distributed = distributed_class(
        optimizer.param_groups,
        list(named_parameters),
        compression,
        backward_passes_per_step=local_workers if passes is None else passes,
        op=hvd.Sum,
    )
    distributed.defaults = optimizer.defaults
    for group in distributed.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda _: distributed._note_backward())
    distributed.minibatch = minibatch
    distributed.iteration = 0
    distributed._lr_of_iteration = None if schedule is None else lr_of_iteration(schedule, minibatch, images)
    return distributed
