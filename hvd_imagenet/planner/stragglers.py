"""A synchronous step is as slow as its slowest worker: the expected maximum over p workers of a distribution."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from hvd_imagenet.core.minibatch import positive_integer

KINDS = ("normal", "lognormal", "exponential")
_FORM = f"none, or one of {', '.join(KINDS)} with the spread as a share of the mean: normal:0.02"
_HALF_WIDTH, _PER_UNIT = 12, 100  # the quadrature's range and points, in standard deviations


@dataclass(frozen=True)
class Stragglers:
    """How the time of one worker's step is distributed, as a multiple of its mean.

    Args:
        kind: normal; lognormal; or exponential, a fixed part and an exponential one.
        spread: the standard deviation, as a share of the mean; 0 for workers that are all alike.

    Raises:
        ValueError: no such kind, or a spread that is negative or, but for lognormal, 1 or more.

    Example:
        >>> str(Stragglers("normal", 0.02)), str(Stragglers.parse("none"))
        ('normal:0.02', 'none')
    """

    kind: str = "normal"
    spread: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"stragglers must be {_FORM}; there is no {self.kind!r}")
        if not 0 <= self.spread < 1:
            raise ValueError(f"stragglers' spread must be from 0 to below 1, not {self.spread!r}")

    def __str__(self) -> str:
        """As parse reads it."""
        return f"{self.kind}:{self.spread:g}" if self.spread else "none"

    @classmethod
    def parse(cls, text: str) -> "Stragglers":
        """Reads none, normal:0.02, lognormal:0.05 or exponential:0.01.

        Args:
            text: what an option or a profile says.

        Returns:
            The distribution.

        Raises:
            ValueError: the text has another form.

        Example:
            >>> Stragglers.parse("lognormal:0.05")
            Stragglers(kind='lognormal', spread=0.05)
        """
        if text == "none":
            return cls()
        kind, _, spread = text.partition(":")
        try:
            value = float(spread)
        except ValueError:
            raise ValueError(f"stragglers must be {_FORM}; not {text!r}") from None
        return cls(kind, value)

    def expected_maximum(self, workers: int) -> float:
        """The expected time of the slowest of some independent workers, as a multiple of the mean of one.

        Args:
            workers: p.

        Returns:
            1 for one worker, more for several; by quadrature, without any random draw.

        Raises:
            ValueError: workers is not positive.

        Example:
            >>> round(Stragglers("normal", 0.1).expected_maximum(256), 4)
            1.2827
            >>> Stragglers("exponential", 0.1).expected_maximum(2)
            1.05
        """
        positive_integer("workers", workers)
        if self.spread == 0:
            return 1.0
        if self.kind == "normal":
            return 1.0 + self.spread * _of_largest(lambda z: z, workers)
        if self.kind == "lognormal":
            sigma = math.sqrt(math.log1p(self.spread**2))
            return _of_largest(lambda z: math.exp(sigma * z - sigma**2 / 2), workers)
        return 1.0 + self.spread * (_harmonic(workers) - 1)  # the mean of the largest of p exponential times


def _harmonic(number: int) -> float:
    """1 + 1/2 + … + 1/number; beyond 100 by Euler's expansion, whose error is below 1e-10."""
    if number <= 100:
        return math.fsum(1 / rank for rank in range(1, number + 1))
    return math.log(number) + 0.5772156649015329 + 1 / (2 * number) - 1 / (12 * number**2)


def _of_largest(value: Callable[[float], float], workers: int) -> float:
    """E[value(Z)] of the largest Z of some standard normal ones, whose density is p·φ(z)·Φ(z)^(p−1).

    The trapezoidal rule is as good as exact for a smooth function that vanishes at both ends.
    """
    terms = []
    for index in range(-_HALF_WIDTH * _PER_UNIT, _HALF_WIDTH * _PER_UNIT + 1):
        z = index / _PER_UNIT
        above = math.erfc(z / math.sqrt(2)) / 2
        if above >= 1:
            continue  # Φ(z) is 0 in floating point
        log_density = math.log(workers) - z * z / 2 + (workers - 1) * math.log1p(-above)
        terms.append(value(z) * math.exp(log_density))
    return math.fsum(terms) / (_PER_UNIT * math.sqrt(2 * math.pi))
