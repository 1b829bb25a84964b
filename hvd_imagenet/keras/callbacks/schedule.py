"""Learning rates that are planned before an execution and take effect inside the compiled step."""

import math
import weakref
from dataclasses import dataclass
from typing import Any

import keras

from hvd_imagenet.core.minibatch import Minibatch, positive_integer
from hvd_imagenet.core.schedules import Schedule
from hvd_imagenet.keras.hook import hook_of

LEAVE = math.nan
"""In a plan: η stays as the step before has left it."""

Rates = list[float | None]
"""η of each step of an execution; None where no callback in the list has claimed the step so far."""


@dataclass
class _Execution:
    """What the callbacks have planned together for the steps of one execution."""

    begin: tuple[int, int]
    rates: Rates
    correct_momentum: bool = True
    holds_rates: bool = False
    """Whether the hook's plan has a number in it, which an execution that was cut short leaves there."""


# Callbacks do not know each other; what they plan together belongs to the optimizer's hook.
_executions: "weakref.WeakKeyDictionary[Any, _Execution]" = weakref.WeakKeyDictionary()


class PlannedRates(keras.callbacks.Callback):
    """Base of the callbacks that set η: they plan it for each step of the coming execution.

    The hook around the optimizer's apply sets η from the plan, so that it and momentum correction are right for every
    step of a compiled execution (steps_per_execution > 1), where callbacks see only its begin. Of several such
    callbacks in a list, a later one wins over an earlier one, but only in the steps that it claims.

    Args:
        momentum_correction: scale the velocity of keras.optimizers.SGD by η_new/η_old where η changes (section 3,
            remark 2). Other optimizers have nothing to correct.

    Raises:
        ValueError: at the begin of training, if the optimizer's learning_rate is no number that can be set.
    """

    log_name = "learning_rate"

    def __init__(self, momentum_correction: bool = True) -> None:
        super().__init__()
        self.momentum_correction = momentum_correction
        self._epoch = 0

    def plan(self, batch: int, earlier: Rates) -> Rates:
        """η of the steps of an execution.

        Args:
            batch: the first step's number in its epoch, from 0.
            earlier: what the callbacks before this one in the list have planned.

        Returns:
            As many rates; earlier's own where this callback does not claim the step.
        """
        raise NotImplementedError

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Makes sure that the compiled step follows a plan."""
        self._hook = hook_of(self.model.optimizer)
        self._optimizer = self._hook.optimizer_with_rate
        rate = self._optimizer.learning_rate
        if not isinstance(rate, keras.Variable):
            raise ValueError(
                f"the optimizer's learning_rate must be a number for {type(self).__name__} to set it, but it is "
                "a schedule of its own; make the optimizer with a number, or leave this callback out"
            )
        _executions.pop(self._hook, None)
        traced_with_plan = self._hook.has_plan
        self._hook.plan_learning_rates([LEAVE] * self.model.steps_per_execution)
        if not traced_with_plan:
            self.model.train_function = None  # an earlier fit may have traced it
            self.model.make_train_function()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Plans η of the execution's steps, after the callbacks before this one in the list."""
        execution = _executions.get(self._hook)
        left_over = False
        if execution is None or execution.begin != (self._epoch, batch):
            left_over = execution is not None and execution.holds_rates
            execution = _Execution((self._epoch, batch), [None] * self.model.steps_per_execution)
            _executions[self._hook] = execution
        rates = self.plan(batch, execution.rates)
        changes = rates != execution.rates
        if changes:
            execution.rates, execution.correct_momentum = rates, self.momentum_correction
        planned = [LEAVE if rate is None else rate for rate in rates]
        has_rates = not all(math.isnan(rate) for rate in planned)
        if left_over or (changes and (has_rates or execution.holds_rates)):
            execution.holds_rates = has_rates
            self._hook.plan_learning_rates(planned, correct_momentum=execution.correct_momentum)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds η of the epoch's last step to the logs."""
        if logs is not None:
            logs[self.log_name] = float(keras.ops.convert_to_numpy(self._optimizer.learning_rate))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Clears what an execution that was cut short has left of the plan, lest train_on_batch take it up."""
        execution = _executions.pop(self._hook, None)
        if execution is not None and execution.holds_rates:
            self._hook.plan_learning_rates([LEAVE] * len(execution.rates))


class LearningRateSchedule(PlannedRates):
    """A schedule of hvd_imagenet.core.schedules: η of iteration t is schedule(t·kn/N).

    t is the optimizer's own count of updates, which is saved and loaded with it, so a run that goes on from a
    checkpoint goes on in its schedule, whatever initial_epoch says. With accumulation all passes of an update have
    its η. An update that LossScaleOptimizer skips does not count. The logs get η as `learning_rate`, Keras' name.

    Args:
        schedule: from fractional epochs to η.
        minibatch: kn and n; kn is what all ranks and all accumulated passes take together.
        images: N, number of training images on all ranks together.
        momentum_correction: scale the velocity of keras.optimizers.SGD by η_new/η_old where η changes (section 3,
            remark 2). Other optimizers have nothing to correct.

    Raises:
        ValueError: schedule is no function, minibatch no Minibatch, images not positive; in training, if the
            schedule gives what is no finite number.

    Example:
        >>> from hvd_imagenet.core.schedules import gradual_warmup
        >>> schedule = gradual_warmup(0.1, 3.2, warmup_epochs=5)
        >>> callback = LearningRateSchedule(schedule, Minibatch(size=8192, per_worker=32), images=1_281_167)
        >>> round(callback.rate(iteration=391), 4)
        1.6501
    """

    def __init__(self, schedule: Schedule, minibatch: Minibatch, images: int, momentum_correction: bool = True) -> None:
        if not callable(schedule):
            raise ValueError(f"schedule must be a function from epochs to a learning rate, not {schedule!r}")
        if not isinstance(minibatch, Minibatch):
            raise ValueError(f"minibatch must be a Minibatch(size, per_worker), not {minibatch!r}")
        positive_integer("images", images)
        super().__init__(momentum_correction)
        self.schedule = schedule
        self.minibatch = minibatch
        self.images = images

    def rate(self, iteration: int) -> float:
        """η of an iteration.

        Args:
            iteration: t, counted from 0.

        Returns:
            The schedule's value.

        Raises:
            ValueError: it is no finite number.
        """
        progress_epochs = self.minibatch.progress_epochs(iteration, self.images)
        return finite_rate(f"schedule({progress_epochs:g})", self.schedule(progress_epochs))

    def plan(self, batch: int, earlier: Rates) -> Rates:
        """η by the optimizer's count of updates; claims every step."""
        passes = self._optimizer.gradient_accumulation_steps or 1
        calls = int(keras.ops.convert_to_numpy(self._optimizer.variables[0]))  # of apply; `iterations` is of updates
        return [self.rate((calls + step) // passes) for step in range(len(earlier))]


def finite_rate(source: str, value: Any) -> float:
    """A learning rate as a float.

    Args:
        source: what gave it, for the message.
        value: what was received.

    Returns:
        The same number.

    Raises:
        ValueError: it is no finite number of 0 or more.

    Example:
        >>> finite_rate("multiplier(3)", float("nan"))
        Traceback (most recent call last):
        ...
        ValueError: multiplier(3) must be a finite number of 0 or more, not nan
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{source} must be a finite number of 0 or more, not {value!r}")
    return number
