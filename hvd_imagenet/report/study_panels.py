"""What the study's figures are drawn of: errors against a setting, and errors against epoch."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from hvd_imagenet.report.curves import over_seeds, whole_epochs
from hvd_imagenet.report.minibatches import images_words
from hvd_imagenet.report.palette import INK, MARKERS, SERIES, colour
from hvd_imagenet.report.study import Point

REFERENCE_COLOUR = SERIES[-1]
_DOT, _MARK, _CROSS = 2.5, 5.0, 6.0
_FAINT = 0.18
_WIDE, _ROOM, _TOP = 3.0, 1.25, 0.97
_PERCENT = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 35, 40, 50, 60, 70, 80, 100)


def draw_errors(axes: Axes, lines: Mapping[str, Sequence[Point]], place: Callable[[Point], float]) -> None:
    """Draws final errors against a setting on an axis of doublings.

    Means over the seeds that did not diverge are joined, with a band of one deviation; each seed is a dot. A mean's
    mark is hollow where seeds are missing; a cross at the top says how many seeds diverged.

    Args:
        axes: to draw onto.
        lines: points by what the line is called.
        place: where a point stands on the horizontal axis.
    """
    for number, (label, points) in enumerate(lines.items()):
        means, deviations = (np.array(each) for each in zip(*(point.statistics for point in points), strict=True))
        x, shade = np.array([place(point) for point in points]), colour(number)
        axes.plot(x, means, color=shade, label=label, zorder=2)
        spread = np.nan_to_num(deviations)
        axes.fill_between(x, means - spread, means + spread, color=shade, alpha=_FAINT, linewidth=0)
        for point, at, mean in zip(points, x, means, strict=True):
            dots = point.errors
            axes.plot([at] * len(dots), dots, ".", color=shade, markersize=_DOT, zorder=2)
            face = "white" if point.seeds else shade
            axes.plot(at, mean, MARKERS[number], color=shade, markerfacecolor=face, markersize=_MARK, zorder=3)
    axes.set_ylabel("validation error (%)")
    scale_errors(axes, [error for points in lines.values() for point in points for error in point.errors])
    if any(point.seeds for points in lines.values() for point in points):
        label = "fewer seeds than wanted"
        axes.plot([], [], MARKERS[0], color=INK, markerfacecolor="white", markersize=_MARK, label=label)
    crosses = [(number, point) for number, line in enumerate(lines.values()) for point in line if point.diverged]
    if crosses:
        _make_room(axes)
    for number, point in crosses:
        _cross(axes, place(point), f"{point.diverged} of {len(point.trainings)}", number)


def doublings(axes: Axes, values: Sequence[float], words: Callable[[float], str]) -> None:
    """Makes the horizontal axis one of doublings, with a number at each of some values.

    Args:
        axes: that were drawn onto.
        values: those.
        words: of a value.
    """
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(values) / 2**0.5, max(values) * 2**0.5)
    axes.xaxis.set_major_locator(FixedLocator(sorted(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))


def multiples(reference: float) -> Callable[[float], str]:
    r"""A minibatch in images, and below it how often it holds the reference.

    Args:
        reference: in images.

    Returns:
        Words of a minibatch.

    Example:
        >>> multiples(64)(16), multiples(256)(8192)
        ('16\n×¼', '8k\n×32')
    """
    fractions = {0.5: "½", 0.25: "¼", 0.125: "⅛"}

    def words(minibatch: float) -> str:
        times = minibatch / reference
        return f"{images_words(minibatch)}\n×{fractions.get(times, f'{times:g}')}"

    return words


def draw_epochs(axes: Axes, points: Sequence[tuple[str, Point]], column: str, reference: Point | None = None) -> None:
    """Draws errors against epoch: the mean over seeds with a band of one deviation; seeds that diverged one by one.

    Args:
        axes: to draw onto.
        points: each behind what its curve is called.
        column: val_error or train_error.
        reference: of these, the one in grey; the others have the series' colours in their order.
    """
    number = 0
    for label, point in points:
        shade = REFERENCE_COLOUR if point is reference else colour(number)
        number += point is not reference
        whole = [training for training in point.trainings if not training.diverged]
        mean, deviation = over_seeds([(each.seed, _by_epoch(each.errors[column])) for each in whole])
        if len(mean):
            axes.plot(mean.index, mean, color=shade, label=label)
            low, high = (mean - deviation).to_numpy(), (mean + deviation).to_numpy()
            axes.fill_between(mean.index.to_numpy(), low, high, color=shade, alpha=_FAINT, linewidth=0)
        for training in point.trainings:
            errors = _by_epoch(training.errors[column])
            if training.diverged and len(errors):
                name = label if label not in axes.get_legend_handles_labels()[1] else None
                axes.plot(errors.index, errors, ":", color=shade, linewidth=1.2, label=name)
                axes.plot(errors.index[-1], errors.iloc[-1], "x", color=shade, markersize=_CROSS, markeredgewidth=1.8)
    whole_epochs(axes)
    axes.set_ylabel(f"{'validation' if column == 'val_error' else 'training'} error (%)")
    scale_errors(axes, [float(height) for line in axes.get_lines() for height in np.asarray(line.get_ydata())])


def scale_errors(axes: Axes, errors: Sequence[float]) -> None:
    """A logarithmic vertical axis where errors are far apart, so that small differences at the end can be seen too.

    Args:
        axes: that errors were drawn onto.
        errors: in percent, of all axes that are to be alike.
    """
    finite = [error for error in errors if math.isfinite(error)]
    if not finite or min(finite) <= 0 or max(finite) < _WIDE * min(finite):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(_PERCENT))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(NullLocator())


def _by_epoch(errors: Sequence[float]) -> pd.Series:
    return pd.Series(errors, index=range(1, len(errors) + 1), dtype="float64").dropna()


def _make_room(axes: Axes) -> None:
    """Above what is drawn."""
    transform = axes.yaxis.get_transform()
    low, high = transform.transform(axes.get_ylim())
    axes.set_ylim(*transform.inverted().transform((low, low + (high - low) * _ROOM)))


def _cross(axes: Axes, at: float, words: str, number: int) -> None:
    """At the top of a panel: seeds that have no error to stand at."""
    transform, shade = axes.get_xaxis_transform(), colour(number)
    axes.plot(at, _TOP, "x", color=shade, markersize=_CROSS, markeredgewidth=1.8, transform=transform, zorder=4)
    axes.annotate(
        f"{words}\ndiverged", (at, _TOP - 0.04), xycoords=transform, ha="center", va="top", fontsize=7, color=INK
    )
