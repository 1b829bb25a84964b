"""Horovod's four callbacks under their names and with their arguments, computing what the paper has."""

import math
from collections.abc import Callable, Collection
from typing import Any

import keras

from hvd_imagenet.core.minibatch import positive_integer
from hvd_imagenet.core.schedules import gradual_warmup
from hvd_imagenet.keras.callbacks.broadcast import BroadcastVariables
from hvd_imagenet.keras.callbacks.metrics import MetricAverage
from hvd_imagenet.keras.callbacks.schedule import LEAVE, PlannedRates, Rates, finite_rate
from hvd_imagenet.keras.communication import HorovodCommunicator


class BroadcastGlobalVariablesCallback(BroadcastVariables):
    """BroadcastVariables with Horovod's arguments.

    Unlike Horovod's, which broadcasts after the first batch, so that the first update is made of gradients of
    different weights, this one does it before the first step. Seeds of dropout and the like keep their own values.

    Args:
        root_rank: whose variables are taken.
        device: Horovod's argument; the variables stay where they are, so it has no effect.
        local_variables: variables (or one) that each rank keeps.

    Raises:
        ValueError: an argument is wrong.

    Example:
        >>> callback = BroadcastGlobalVariablesCallback(0)
    """

    def __init__(self, root_rank: int, device: str = "", local_variables: Collection[Any] | Any = None) -> None:
        super().__init__(root_rank, local_variables)
        self.device = device


class MetricAverageCallback(MetricAverage):
    """MetricAverage with Horovod's arguments.

    Unlike Horovod's, which takes the plain mean over the ranks, this one weights by the number of samples, so that
    uneven shards give the numbers of a single process.

    Args:
        device: Horovod's argument; the numbers are few, so it has no effect.

    Example:
        >>> callback = MetricAverageCallback()
    """

    def __init__(self, device: str = "") -> None:
        super().__init__()
        self.device = device


class LearningRateScheduleCallback(PlannedRates):
    """Sets η = initial_lr · multiplier from start_epoch up to and without end_epoch.

    Unlike Horovod's: a constant multiplier stays constant, where Horovod ≥ 0.23 takes its power, multiplier **
    (epoch − start_epoch); momentum correction scales the velocity of keras.optimizers.SGD by η_new/η_old, where Horovod
    sets optimizer.momentum, which a compiled step does not see and which would bend Nesterov's look-ahead; η is that of
    each step also under steps_per_execution > 1.

    Args:
        initial_lr: η to multiply, 0 or more; None, as in older Horovod, for the optimizer's when training first begins.
        multiplier: a constant, or a function of the epoch: an integer with staircase, else epoch + batch /
            steps_per_epoch. It must be given.
        start_epoch: the first epoch in which this callback sets η.
        end_epoch: the first one in which it no longer does; None for never. η then stays as it is.
        staircase: set η at the first step of every epoch instead of at every step.
        momentum_correction: scale the velocity where η changes (section 3, remark 2).
        steps_per_epoch: None for what fit knows.

    Raises:
        ValueError: an argument is wrong; in training, if the number of steps in an epoch is not known or the multiplier
            gives what is no number.

    Example:
        >>> callback = LearningRateScheduleCallback(0.8, multiplier=0.1, start_epoch=30, end_epoch=60)
        >>> callback.on_epoch_begin(45)
        >>> round(callback.plan(batch=0, earlier=[None])[0], 4)
        0.08
    """

    log_name = "lr"

    def __init__(
        self, initial_lr: float | None = None, multiplier: float | Callable[[float], float] | None = None,
        start_epoch: float = 0, end_epoch: float | None = None, staircase: bool = True,
        momentum_correction: bool = True, steps_per_epoch: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(momentum_correction)
        self.initial_lr = None if initial_lr is None else finite_rate("initial_lr", initial_lr)
        self.multiplier = multiplier if callable(multiplier) else finite_rate("multiplier", multiplier)
        self.start_epoch = finite_rate("start_epoch", start_epoch)
        if end_epoch is not None and finite_rate("end_epoch", end_epoch) < start_epoch:
            raise ValueError(f"end_epoch must not be before start_epoch, but {end_epoch!r} is before {start_epoch!r}")
        self.end_epoch = end_epoch
        self.staircase = staircase
        if steps_per_epoch is not None:
            positive_integer("steps_per_epoch", steps_per_epoch)
        self.steps_per_epoch = steps_per_epoch
        self._steps = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Finds out the number of steps, of this fit and not of the one before."""
        super().on_train_begin(logs)
        if self.initial_lr is None:
            self.initial_lr = self._rate_now()
        self._steps = self.steps_per_epoch or (self.params or {}).get("steps") or 0
        if not self.staircase and not self._steps:
            raise ValueError(
                f"steps_per_epoch must be given to {type(self).__name__}, because the data do not say how many steps "
                "an epoch has"
            )

    def plan(self, batch: int, earlier: Rates) -> Rates:
        """Claims every step of its epochs, with staircase to leave all but the first as they are."""
        return [self._rate(batch + step, rate) for step, rate in enumerate(earlier)]

    def _rate(self, step: int, earlier: float | None) -> float | None:
        """η of a step of the current epoch."""
        if self._epoch < self.start_epoch or (self.end_epoch is not None and self._epoch >= self.end_epoch):
            return earlier
        if self.staircase:
            return LEAVE if step else self._multiplied(self._epoch)
        return self._multiplied(self._epoch + step / self._steps)

    def _rate_now(self) -> float:
        return float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))

    def _multiplied(self, epoch: float) -> float:
        assert self.initial_lr is not None
        if not callable(self.multiplier):
            return self.initial_lr * self.multiplier
        return self.initial_lr * finite_rate(f"multiplier({epoch:g})", self.multiplier(epoch))


class LearningRateWarmupCallback(LearningRateScheduleCallback):
    """Gradual warmup from initial_lr / size() to initial_lr (section 2.2), one constant amount more at every step.

    Unlike Horovod's: the first step has initial_lr / size(), where Horovod is one amount ahead; a fractional
    warmup_epochs ends where it says, where Horovod goes on to the end of that epoch (2.5 epochs on 8 ranks: up to 1.175
    times initial_lr); zero is no warmup, where Horovod leaves η alone; momentum correction as in
    LearningRateScheduleCallback. The first step after warmup has initial_lr exactly, unless another callback sets it,
    or η is no longer what the last step of warmup had: one of Keras' own, such as ReduceLROnPlateau, has set it then.

    Args:
        initial_lr: η to reach; that of the whole job, so kη and not the η of one rank. None, as in older Horovod, for
            the optimizer's when training first begins.
        warmup_epochs: 0 or more, fractional too.
        momentum_correction: scale the velocity where η changes (section 3, remark 2).
        steps_per_epoch: None for what fit knows.
        verbose: 1 for a line on rank 0 when warmup is over.

    Raises:
        ValueError: an argument is wrong; in training, if the number of steps in an epoch is not known.

    Example:
        >>> callback = LearningRateWarmupCallback(0.8, warmup_epochs=5, verbose=1)
    """

    def __init__(
        self, initial_lr: float | None = None, warmup_epochs: float = 5, momentum_correction: bool = True,
        steps_per_epoch: int | None = None, verbose: int = 0,
    ) -> None:  # fmt: skip
        self.warmup_epochs = finite_rate("warmup_epochs", warmup_epochs)
        super().__init__(
            initial_lr, self._warmup, end_epoch=self.warmup_epochs, staircase=False,
            momentum_correction=momentum_correction, steps_per_epoch=steps_per_epoch,
        )  # fmt: skip
        self.verbose = verbose

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the number of ranks."""
        self._communicator = HorovodCommunicator()
        super().on_train_begin(logs)

    def _warmup(self, epoch: float) -> float:
        return gradual_warmup(1 / self._communicator.size, 1.0, self.warmup_epochs)(epoch)

    def _rate(self, step: int, earlier: float | None) -> float | None:
        """That of the schedule, and initial_lr in the first step after warmup where nobody claims it."""
        before = self._epoch - 1 / self._steps  # the last step of the epoch before
        if before < self.warmup_epochs <= self._epoch and step == 0 and earlier is None:
            untouched = before < 0 or math.isclose(self._rate_now(), self._multiplied(before), rel_tol=1e-6)
            return self.initial_lr if untouched else None
        return super()._rate(step, earlier)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Says when warmup is over."""
        super().on_epoch_end(epoch, logs)
        ends = epoch < self.warmup_epochs <= epoch + 1
        if ends and self.verbose > 0 and self._communicator.rank == 0:
            print(f"\nEpoch {epoch + 1}: finished gradual learning rate warmup to {self.initial_lr:g}.")
