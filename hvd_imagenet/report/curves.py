"""Errors against epoch, as the paper's Figures 2 to 4, and the loss of every iteration."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from hvd_imagenet.report.groups import Group
from hvd_imagenet.report.palette import INK, colour, dashes
from hvd_imagenet.report.run import Run

_POINTS = 600
_WINDOWS = 50
_UNFINISHED = (0, (1, 1.5))
_WIDE, _DECADES = 8.0, 100.0


def draw_curves(axes: Axes, groups: Sequence[Group], column: str) -> None:
    """Draws an error against epoch: mean and deviation over seeds of finished runs, the others run by run.

    Args:
        axes: to draw onto.
        groups: of one report.
        column: of metrics.csv.
    """
    for number, group in enumerate(groups):
        mean, deviation = over_seeds([_by_number(run.epochs, "epoch", column, run) for run in group.finished])
        epochs = mean.index.to_numpy() + 1
        if len(mean):
            axes.plot(epochs, mean, label=group.label, color=colour(number), linestyle=dashes(number))
            low, high = (mean - deviation).to_numpy(), (mean + deviation).to_numpy()
            axes.fill_between(epochs, low, high, color=colour(number), alpha=0.18, linewidth=0)
        for run in _going_on(group):
            label = None if len(mean) else group.label
            axes.plot(run.epochs["epoch"] + 1, run.epochs[column], **_style(number, label))  # type: ignore[arg-type]
    whole_epochs(axes)
    axes.set_ylabel("error (%)")
    if not log_if_wide(axes, "y", _heights(axes)):
        axes.set_ylim(bottom=0)


def draw_losses(axes: Axes, groups: Sequence[Group]) -> None:
    """Draws the loss against iteration, smoothed: the mean over seeds of finished runs, the others run by run.

    Args:
        axes: to draw onto.
        groups: of one report.
    """
    lengths = []
    for number, group in enumerate(groups):
        mean, _ = over_seeds([_by_number(run.iterations, "iteration", "loss", run) for run in group.finished])
        smooth = smoothed(mean)
        if len(mean):
            axes.plot(smooth.index + 1, smooth, label=group.label, color=colour(number), linestyle=dashes(number))
        for run in _going_on(group):
            label = None if len(mean) else group.label
            line = smoothed(run.iterations.set_index("iteration")["loss"])
            axes.plot(line.index + 1, line, **_style(number, label))  # type: ignore[arg-type]
        for run in group.finished:
            resumed = int((run.summary or {})["resumed_from_iteration"])
            if resumed:
                height = np.interp(resumed, smooth.index.to_numpy(), smooth.to_numpy())
                axes.plot(
                    [resumed + 1], [height], "^", markersize=7, color=colour(number), markeredgecolor=INK, zorder=3
                )
        lengths += [len(run.iterations) for run in group.runs if not run.problems]
    log_if_wide(axes, "x", lengths)
    log_if_wide(axes, "y", _heights(axes))
    axes.set_xlabel("iterations")
    axes.set_ylabel("loss")


def whole_epochs(axes: Axes) -> None:
    """Makes the horizontal axis one of epochs, with whole numbers at its ticks.

    Args:
        axes: that were drawn onto.
    """
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=(1, 2, 3, 5, 6, 10)))
    axes.set_xlabel("epochs")


def log_if_wide(axes: Axes, name: Literal["x", "y"], values: Sequence[float]) -> bool:
    """Makes an axis logarithmic where its values are far apart, and writes its numbers out.

    Args:
        axes: that values were drawn onto.
        name: of the axis.
        values: on it; NaN is left out.

    Returns:
        Whether it is logarithmic now.
    """
    finite = [value for value in values if np.isfinite(value)]
    if not finite or min(finite) <= 0 or max(finite) < _WIDE * min(finite):
        return False
    axis = axes.xaxis if name == "x" else axes.yaxis
    (axes.set_xscale if name == "x" else axes.set_yscale)("log")
    # What is drawn may reach farther than the values: from the first iteration to the number of them.
    low, high = axes.get_xlim() if name == "x" else axes.get_ylim()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < _DECADES * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
    return True


def over_seeds(columns: Sequence[tuple[int, pd.Series]]) -> tuple[pd.Series, pd.Series]:
    """Mean and deviation at each epoch or iteration; runs of one seed count once.

    Args:
        columns: a seed, and its values by epoch or iteration.

    Returns:
        Mean, and the sample deviation, 0 of a single seed; both empty of none.

    Example:
        >>> mean, deviation = over_seeds([(0, pd.Series([1.0, 3.0])), (1, pd.Series([3.0, 3.0]))])
        >>> mean.tolist(), deviation.round(3).tolist()
        ([2.0, 3.0], [1.414, 0.0])
    """
    if not columns:
        return pd.Series(dtype="float64"), pd.Series(dtype="float64")
    table = pd.concat([values for _, values in columns], axis=1, keys=range(len(columns)))
    of_seed = table.T.groupby(np.array([seed for seed, _ in columns])).mean()
    return of_seed.mean(), of_seed.std().fillna(0.0)


def smoothed(values: pd.Series) -> pd.Series:
    """A running mean over a fiftieth of a curve, at so many points as can be seen.

    Args:
        values: by iteration.

    Returns:
        At most _POINTS + 1 of them, the last one included.

    Example:
        >>> smoothed(pd.Series([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """
    smooth = values.rolling(max(1, len(values) // _WINDOWS), min_periods=1, center=True).mean()
    step = max(1, -(-len(smooth) // _POINTS))
    return smooth.iloc[(len(smooth) - 1) % step :: step] if len(smooth) else smooth


def _heights(axes: Axes) -> list[float]:
    """Of all points of all lines."""
    return [float(value) for line in axes.get_lines() for value in np.asarray(line.get_ydata(), dtype=float)]


def _by_number(table: pd.DataFrame, number: str, column: str, run: Run) -> tuple[int, pd.Series]:
    assert run.recipe is not None
    return run.recipe.seed, table.set_index(number)[column]


def _going_on(group: Group) -> list[Run]:
    return [run for run in group.runs if not run.finished and not run.problems]


def _style(number: int, label: str | None) -> dict[str, object]:
    return {"color": colour(number), "linestyle": _UNFINISHED, "linewidth": 1.2, "label": label}
