"""The learning rates of the coming steps, in variables, so that a compiled step follows them without a new trace."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class LearningRatePlan:
    """η of the coming calls of apply, and the momentum correction that goes with it.

    Args:
        optimizer: the innermost one, whose η it is.
        calls: number of calls that are planned at a time.

    Raises:
        ValueError: no call, or the optimizer's learning rate is a schedule.

    Example:
        >>> optimizer = keras.optimizers.SGD(0.1)
        >>> plan = LearningRatePlan(optimizer, calls=2)
        >>> plan.set([0.5, math.nan], correct_momentum=True)
        >>> plan.advance()
        >>> float(optimizer.learning_rate)
        0.5
    """

    def __init__(self, optimizer: Any, calls: int) -> None:
        if calls < 1:
            raise ValueError("rates must hold one η or more, got none")
        if not isinstance(optimizer._learning_rate, keras.Variable):
            raise ValueError(
                f"the learning rate of {optimizer.name} is {optimizer._learning_rate!r}, which sets η itself; "
                "make the optimizer with a number"
            )
        self._optimizer = optimizer
        self._calls = calls
        dtype = optimizer._learning_rate.dtype
        self._rates = keras.Variable(np.full(calls, math.nan), dtype=dtype, trainable=False, name="planned_rates")
        self._position = keras.Variable(0, dtype="int32", trainable=False, name="position_in_plan")
        self._corrects = keras.Variable(True, dtype="bool", trainable=False, name="corrects_momentum")
        self._set_to_correct = True

    def fits(self, calls: int) -> bool:
        """Whether a step that was traced with this plan can follow another of so many calls."""
        return self._calls == calls

    def set(self, rates: Sequence[float], correct_momentum: bool) -> None:
        """Plans the coming calls, anew from the first of them.

        Args:
            rates: η of each, NaN to leave it.
            correct_momentum: scale the velocities of keras.optimizers.SGD by η_new/η_old.
        """
        self._rates.assign(np.asarray(rates, dtype=np.float64))
        if correct_momentum != self._set_to_correct:
            self._corrects.assign(correct_momentum)
            self._set_to_correct = correct_momentum
        self._position.assign(0)

    def advance(self) -> None:
        """Sets η for the step that follows; part of the compiled step."""
        position = ops.convert_to_tensor(self._position)
        old = ops.convert_to_tensor(self._optimizer._learning_rate)
        planned = ops.take(ops.convert_to_tensor(self._rates), ops.minimum(position, self._calls - 1))
        new = ops.where(ops.logical_or(ops.isnan(planned), position >= self._calls), old, planned)
        self._position.assign_add(1)
        velocities = self._velocities()
        if velocities:
            # After η = 0 (the end of a cosine) the velocity is 0 too: no history to scale.
            scales = ops.logical_and(ops.not_equal(new, old), ops.not_equal(old, 0))
            scales = ops.logical_and(scales, ops.convert_to_tensor(self._corrects))
            ratio = ops.where(scales, new / ops.where(scales, old, ops.ones_like(old)), ops.ones_like(old))
            ops.cond(scales, lambda: _scale(velocities, ratio), lambda: None)
        self._optimizer._learning_rate.assign(new)

    def _velocities(self) -> list[Any]:
        if not isinstance(self._optimizer, keras.optimizers.SGD):
            return []
        return [each for each in getattr(self._optimizer, "momentums", []) if each is not None]


def _scale(velocities: list[Any], ratio: Any) -> None:
    for velocity in velocities:
        velocity.assign(velocity * ops.cast(ratio, velocity.dtype))
