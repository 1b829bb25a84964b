"""Learning rate schedules: pure functions from progress (fractional epochs) to η; compose, don't subclass."""

import itertools
import math
from collections.abc import Callable, Sequence

Schedule = Callable[[float], float]
"""From fractional epochs, t·kn/N before iteration t, to the learning rate of that iteration."""


def constant(value: float) -> Schedule:
    """The same value for ever.

    Args:
        value: the learning rate.

    Returns:
        A schedule.

    Example:
        >>> constant(0.1)(3.5)
        0.1
    """
    return lambda epochs: value


def gradual_warmup(start: float, target: float, warmup_epochs: float) -> Schedule:
    """Adds the same amount at every iteration, so that the target is reached after warmup_epochs (section 2.2).

    Args:
        start: η of the first iteration; in the paper the reference learning rate, not zero.
        target: η from warmup_epochs on; in the paper kη.
        warmup_epochs: length in epochs; fractional and zero lengths are exact.

    Returns:
        A schedule that stays at the target after warmup.

    Raises:
        ValueError: warmup_epochs is negative.

    Example:
        >>> warmup = gradual_warmup(0.1, 3.2, warmup_epochs=5)
        >>> [round(warmup(epochs), 4) for epochs in (0, 2.5, 5, 6)]
        [0.1, 1.65, 3.2, 3.2]
        >>> gradual_warmup(0.1, 3.2, warmup_epochs=0)(0)
        3.2
    """
    _not_negative("warmup_epochs", warmup_epochs)

    def schedule(epochs: float) -> float:
        if epochs >= warmup_epochs:
            return target
        return start + (target - start) * (epochs / warmup_epochs)

    return schedule


def step_decay(value: float, decay_epochs: Sequence[float], factor: float = 0.1) -> Schedule:
    """Multiplies by factor at each of decay_epochs (section 5.1: ×0.1 at epochs 30, 60 and 80 of 90).

    Args:
        value: η before the first of decay_epochs.
        decay_epochs: ascending; an iteration that starts exactly at one of them is already decayed.
        factor: of every step.

    Returns:
        A schedule.

    Raises:
        ValueError: decay_epochs do not ascend.

    Example:
        >>> decay = step_decay(3.2, decay_epochs=(30, 60, 80))
        >>> [round(decay(epochs), 4) for epochs in (0, 29.99, 30, 60, 80, 89)]
        [3.2, 3.2, 0.32, 0.032, 0.0032, 0.0032]
    """
    _ascending("decay_epochs", decay_epochs)
    return lambda epochs: value * factor ** sum(epochs >= decay for decay in decay_epochs)


def cosine(value: float, end_epochs: float, start_epochs: float = 0.0) -> Schedule:
    """Half a cosine from value to zero (Loshchilov and Hutter 2016), the modern alternative to steps.

    Args:
        value: η up to start_epochs.
        end_epochs: where zero is reached, in epochs.
        start_epochs: where the descent begins; the end of warmup, so that the two join without a jump.

    Returns:
        A schedule that stays at zero after end_epochs.

    Raises:
        ValueError: end_epochs is not after start_epochs.

    Example:
        >>> [round(cosine(3.2, end_epochs=90)(epochs), 4) for epochs in (0, 45, 90)]
        [3.2, 1.6, 0.0]
    """
    if not end_epochs > start_epochs:
        raise ValueError(f"end_epochs must be after start_epochs, but {end_epochs!r} is not after {start_epochs!r}")

    def schedule(epochs: float) -> float:
        fraction = (epochs - start_epochs) / (end_epochs - start_epochs)
        return value * 0.5 * (1.0 + math.cos(math.pi * min(max(fraction, 0.0), 1.0)))

    return schedule


def join(schedules: Sequence[Schedule], boundaries_epochs: Sequence[float]) -> Schedule:
    """One schedule after another; each sees the progress of the whole run, not that since its own start.

    Args:
        schedules: one more than boundaries.
        boundaries_epochs: ascending; from the i-th boundary on, the (i+1)-th schedule holds.

    Returns:
        A schedule.

    Raises:
        ValueError: the numbers do not fit, or the boundaries do not ascend.

    Example:
        >>> constant_warmup = join([constant(0.1), step_decay(3.2, (30, 60, 80))], boundaries_epochs=[5])
        >>> [round(constant_warmup(epochs), 4) for epochs in (0, 4.99, 5, 30)]
        [0.1, 0.1, 3.2, 0.32]
    """
    if len(schedules) != len(boundaries_epochs) + 1:
        raise ValueError(
            f"schedules must be one more than boundaries_epochs, but there are {len(schedules)} schedules "
            f"and {len(boundaries_epochs)} boundaries"
        )
    _ascending("boundaries_epochs", boundaries_epochs)
    return lambda epochs: schedules[sum(epochs >= boundary for boundary in boundaries_epochs)](epochs)


def _not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or more, not {value!r}")


def _ascending(name: str, values: Sequence[float]) -> None:
    if any(not later > earlier for earlier, later in itertools.pairwise(values)):
        raise ValueError(f"{name} must ascend, not {tuple(values)!r}")
