"""Error against minibatch, as the paper's Figure 1."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from hvd_imagenet.report.groups import Group, shown, words
from hvd_imagenet.report.palette import MARKERS, SERIES, colour, dashes
from hvd_imagenet.report.paper import FIGURE_1


def minibatch_lines(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Groups that differ in the minibatch alone make a line.

    Args:
        groups: of one report; those without a finished run are left out.

    Returns:
        Groups in the order of their minibatches, by what else they differ in.
    """
    lines: dict[str, list[Group]] = {}
    for group in groups:
        if not math.isnan(group.of_summary("val_error_median_last5").mean):
            others = [f"{words(name)} {shown(value)}" for name, value in group.differing.items() if name != "minibatch"]
            lines.setdefault(", ".join(others), []).append(group)
    return {label: sorted(line, key=lambda group: int(group.fields["minibatch"])) for label, line in lines.items()}


def draw_by_minibatch(axes: Axes, lines: Mapping[str, Sequence[Group]]) -> None:
    """Draws a line for each way of training, with error bars over seeds.

    Args:
        axes: to draw onto.
        lines: of minibatch_lines.
    """
    for number, (label, groups) in enumerate(lines.items()):
        found = [group.of_summary("val_error_median_last5") for group in groups]
        axes.errorbar(
            [group.fields["minibatch"] for group in groups],
            [each.mean for each in found],
            yerr=[0.0 if math.isnan(each.deviation) else each.deviation for each in found],
            label=label or "error",
            color=colour(number),
            linestyle=dashes(number),
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            capsize=3,
        )
    _label(axes)


def draw_paper(axes: Axes) -> None:
    """Draws the paper's Figure 1.

    Args:
        axes: to draw onto.
    """
    axes.errorbar(
        [point.minibatch for point in FIGURE_1],
        [point.error for point in FIGURE_1],
        yerr=[point.deviation or 0.0 for point in FIGURE_1],
        color=SERIES[-1],
        marker="o",
        markersize=4,
        capsize=3,
    )
    _label(axes)


def images_words(minibatch: float) -> str:
    """A minibatch as the paper writes it.

    Args:
        minibatch: images.

    Example:
        >>> images_words(256), images_words(8192), images_words(1536)
        ('256', '8k', '1.5k')
    """
    return f"{minibatch / 1024:g}k" if minibatch >= 1024 and minibatch % 64 == 0 else f"{minibatch:g}"


def _label(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: images_words(value)))
    axes.set_xlabel("minibatch (images)")
    axes.set_ylabel("validation error (%)")
