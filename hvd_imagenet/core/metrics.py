"""Sums and counts from which every reported number comes, so that uneven shares need no weights."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Sums:
    """What was summed over images; sums of processes add up, means would not.

    Args:
        images: number of images.
        loss: sum of their losses.
        correct: images whose highest logit is their label's.
        correct_top5: images whose label is among the five highest logits.

    Example:
        >>> first, second = Sums(images=3, loss=6.0, correct=2, correct_top5=3), Sums(1, 2.0, 0, 1)
        >>> both = first + second
        >>> both.mean_loss, both.error, both.error_top5
        (2.0, 50.0, 0.0)
    """

    images: float = 0.0
    loss: float = 0.0
    correct: float = 0.0
    correct_top5: float = 0.0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def mean_loss(self) -> float:
        """Mean loss an image; NaN of no images."""
        return self.loss / self.images if self.images else math.nan

    @property
    def error(self) -> float:
        """Top-1 error in percent; NaN of no images."""
        return 100.0 * (1.0 - self.correct / self.images) if self.images else math.nan

    @property
    def error_top5(self) -> float:
        """Top-5 error in percent; NaN of no images."""
        return 100.0 * (1.0 - self.correct_top5 / self.images) if self.images else math.nan


def top_k_correct(logits: np.ndarray, labels: np.ndarray, k: int) -> int:
    """How many labels are among the k highest logits; with fewer than k classes all of them.

    Args:
        logits: (images, classes), floating point.
        labels: (images,), integers.
        k: 1 for top-1, 5 for top-5.

    Returns:
        Number of images.

    Example:
        >>> top_k_correct(np.array([[0.1, 0.9, 0.0], [0.5, 0.2, 0.3]]), np.array([1, 2]), k=1)
        1
    """
    of_label = np.take_along_axis(logits, labels[:, None], axis=1)
    # «not lower or equal» rather than «higher»: a logit that is no number must not count as correct.
    return int(((~(logits <= of_label)).sum(axis=1) < k).sum())


def classification_sums(outputs: np.ndarray, labels: np.ndarray, from_logits: bool = True) -> Sums:
    """Cross-entropy and errors of a batch.

    Args:
        outputs: (images, classes), floating point: logits, or probabilities.
        labels: (images,), integers.
        from_logits: False if the outputs are probabilities.

    Returns:
        The sums over the batch; computed in float64.

    Example:
        >>> sums = classification_sums(np.array([[2.0, 0.0], [2.0, 0.0]]), np.array([0, 1]))
        >>> sums.images, round(sums.loss, 3), sums.correct
        (2.0, 2.254, 1.0)
    """
    values = outputs.astype(np.float64)
    if from_logits:
        shifted = values - values.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    else:
        # As Keras has it: a probability of 0 is one of 1e-7.
        log_probabilities = np.log(np.clip(values, 1e-7, 1.0))
    loss = -float(np.take_along_axis(log_probabilities, labels[:, None], axis=1).sum())
    correct, correct_top5 = (float(top_k_correct(outputs, labels, k)) for k in (1, 5))
    return Sums(float(len(labels)), loss, correct, correct_top5)


def median_of_last(values: Sequence[float], count: int = 5) -> float:
    """The median of the last epochs' values, which is what the paper reports of a run (section 5.1).

    Args:
        values: one an epoch, at least one.
        count: how many of the last to take; all where there are fewer.

    Returns:
        The median.

    Raises:
        ValueError: there are no values.

    Example:
        >>> median_of_last([90.0, 24.0, 23.8, 23.6, 23.9, 23.7])
        23.8
    """
    if not values:
        raise ValueError("values must hold at least one epoch, not none")
    return statistics.median(values[-count:])


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over independent runs.

    Args:
        values: one a run, at least one.

    Returns:
        Mean, and the sample deviation (n − 1 in the denominator), which is nan for a single run.

    Raises:
        ValueError: there are no values.

    Example:
        >>> mean_and_deviation([23.0, 24.0, 25.0])
        (24.0, 1.0)
    """
    if not values:
        raise ValueError("values must hold at least one run, not none")
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else float("nan")
