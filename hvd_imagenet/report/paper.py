"""What the paper measured, to stand beside one's own: top-1 error on ImageNet in percent (Goyal et al. 2017)."""

from collections.abc import Collection
from typing import NamedTuple


class Point(NamedTuple):
    """A minibatch's error in percent: mean over 5 runs, and deviation where the paper prints it."""

    minibatch: int
    error: float
    deviation: float | None


class Table(NamedTuple):
    """Settings and errors of a study, as text: mean ± deviation of 5 runs."""

    caption: str
    rows: tuple[tuple[str, str], ...]


FIGURE_1 = (
    Point(128, 23.49, None),
    Point(256, 23.60, 0.12),
    Point(512, 23.48, None),
    Point(1024, 23.53, None),
    Point(2048, 23.49, None),
    Point(4096, 23.56, None),
    Point(8192, 23.74, 0.09),
    Point(16384, 24.79, 0.27),
    Point(32768, 27.55, 0.28),
    Point(65536, 33.96, 0.80),
)
"""Error of ResNet-50 against minibatch; the learning rate by linear scaling, with gradual warmup beyond 256."""

_TABLES = {
    "minibatch": Table(
        "Figure 1: ResNet-50, minibatch; gradual warmup beyond 256",
        tuple(
            (f"{point.minibatch:,}", f"{point.error:.2f}" + (f" ± {point.deviation:.2f}" if point.deviation else ""))
            for point in FIGURE_1
        ),
    ),
    "warmup": Table(
        "Table 1: ResNet-50, minibatch and warmup",
        (
            ("256, none", "23.60 ± 0.12"),
            ("8,192, none", "24.84 ± 0.37"),
            ("8,192, constant", "25.88 ± 0.56"),
            ("8,192, gradual", "23.74 ± 0.09"),
        ),
    ),
    "reference_lr": Table(
        "Table 2a: ResNet-50, minibatch and learning rate",
        (
            ("256, 0.05", "23.92 ± 0.10"),
            ("256, 0.1", "23.60 ± 0.12"),
            ("256, 0.2", "23.68 ± 0.09"),
            ("8,192, 0.05 · 32", "24.27 ± 0.08"),
            ("8,192, 0.1 · 32", "23.74 ± 0.09"),
            ("8,192, 0.2 · 32", "24.05 ± 0.18"),
            ("8,192, 0.1 (not scaled)", "41.67 ± 0.10"),
            ("8,192, 0.1 · √32", "26.22 ± 0.03"),
        ),
    ),
    "zero_last_gamma": Table(
        "Table 2b: ResNet-50, minibatch and γ at first in the last batch norm of every block",
        (
            ("256, γ = 1", "23.84 ± 0.18"),
            ("256, γ = 0", "23.60 ± 0.12"),
            ("8,192, γ = 1", "24.11 ± 0.07"),
            ("8,192, γ = 0", "23.74 ± 0.09"),
        ),
    ),
    "model": Table(
        "Table 2c: network and minibatch",
        (
            ("ResNet-50, 256", "23.60 ± 0.12"),
            ("ResNet-50, 8,192", "23.74 ± 0.09"),
            ("ResNet-101, 256", "22.08 ± 0.06"),
            ("ResNet-101, 8,192", "22.36 ± 0.09"),
        ),
    ),
}


def comparable(differing: Collection[str]) -> list[Table]:
    """The paper's studies of what runs differ in.

    Args:
        differing: names of a recipe's fields.

    Returns:
        Tables in the paper's order.

    Example:
        >>> [table.caption for table in comparable(["momentum", "warmup"])]
        ['Table 1: ResNet-50, minibatch and warmup']
    """
    return [table for name, table in _TABLES.items() if name in differing]
