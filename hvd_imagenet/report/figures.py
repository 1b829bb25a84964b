"""Figures as the paper has them: error against minibatch, training curves, loss by iteration.

A figure is some panels. Files hold its panels side by side; the page has each by itself, so that a phone can show one
below the other.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from hvd_imagenet.errors import UserError
from hvd_imagenet.report.curves import draw_curves, draw_losses
from hvd_imagenet.report.groups import Group
from hvd_imagenet.report.minibatches import draw_by_minibatch, draw_paper, minibatch_lines
from hvd_imagenet.report.palette import GRID, INK, STYLE_VARIABLES

_PANEL_INCHES = (4.6, 3.5)
_LEGEND_LINE_INCHES = 0.17
_PNG_DPI = 200
_STYLE: dict[str, object] = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "text.color": INK,
    "text.parse_math": False,  # a $ in a path is a $
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Args:
        name: unique among a report's panels.
        title: above it.
        description: what it shows, for those who do not see it.
        draw: onto axes.
    """

    name: str
    title: str
    description: str
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Grid:
    """How a file's panels stand.

    Args:
        columns: panels in a row; None for all of them.
        inches: width and height of a panel.
        same_heights: whether all panels have one vertical axis.
        legend_inside: in each panel, rather than below it.
    """

    columns: int | None = None
    inches: tuple[float, float] = _PANEL_INCHES
    same_heights: bool = False
    legend_inside: bool = False


@dataclass(frozen=True)
class Figure:
    """Panels that belong together.

    Args:
        name: of its files.
        caption: below it.
        panels: in the order of reading.
        grid: how they stand in a file.
    """

    name: str
    caption: str
    panels: tuple[Panel, ...]
    grid: Grid = Grid()


def figures_of(groups: Sequence[Group]) -> list[Figure]:
    """The figures that runs have something to show in.

    Args:
        groups: of one report.

    Returns:
        Error against minibatch if there are two minibatches with finished runs; curves and losses if there are any.

    Example:
        >>> figures_of([])
        []
    """
    figures = []
    lines = minibatch_lines(groups)
    if len({group.fields["minibatch"] for line in lines.values() for group in line}) > 1:
        figures.append(_by_minibatch(lines))
    if any(len(run.epochs) for group in groups for run in group.runs):
        figures.append(_training_curves(groups))
    if any(len(run.iterations) for group in groups for run in group.runs):
        figures.append(_losses(groups))
    return figures


def _by_minibatch(lines: Mapping[str, Sequence[Group]]) -> Figure:
    ours = "; ".join(
        f"{label or 'error'}: "
        + ", ".join(
            f"{group.of_summary('val_error_median_last5').mean:.2f} % at {group.fields['minibatch']}" for group in line
        )
        for label, line in lines.items()
    )
    panels = (
        Panel(
            "minibatch",
            "these runs",
            f"Validation error against minibatch. {ours}",
            lambda axes: draw_by_minibatch(axes, lines),
        ),
        Panel(
            "paper",
            "the paper, Figure 1",
            "Validation error of the paper against minibatch: about 23.5 % up to 8,192 images, 33.96 % at 65,536.",
            draw_paper,
        ),
    )
    caption = "Median validation error of the last 5 epochs against minibatch; mean ± standard deviation over seeds."
    return Figure("error_by_minibatch", caption, panels)


def _training_curves(groups: Sequence[Group]) -> Figure:
    panels = tuple(
        Panel(
            f"curves-{column.split('_')[0]}",
            f"{what} error",
            f"{what.capitalize()} error in percent against epoch, a curve a group; the table has the last values.",
            lambda axes, column=column: draw_curves(axes, groups, column),  # type: ignore[misc]
        )
        for what, column in (("training", "train_error"), ("validation", "val_error"))
    )
    caption = (
        "Error against epoch: mean over seeds of finished runs, and a band of one standard deviation. "
        "Dots: a run that is not finished."
    )
    return Figure("training_curves", caption, panels)


def _losses(groups: Sequence[Group]) -> Figure:
    description = "Training loss of the minibatch against iteration, a curve a group, smoothed."
    panel = Panel("loss", "training loss", description, lambda axes: draw_losses(axes, groups))
    caption = (
        "Loss of each minibatch, a running mean over a fiftieth of the run; the mean over seeds. "
        "Dots: a run that is not finished. A triangle: resumed from a checkpoint there."
    )
    return Figure("loss_by_iteration", caption, (panel,))


def save(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Writes every figure as PNG and as SVG.

    Args:
        figures: of a report.
        folder: made if missing.

    Returns:
        The files.

    Raises:
        UserError: a file cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure in figures:
            canvas = _drawn(figure.panels, figure.name, figure.grid)
            for suffix, options in ((".png", {"dpi": _PNG_DPI}), (".svg", {"metadata": {"Date": None}})):
                written.append((folder / figure.name).with_suffix(suffix))
                with matplotlib.rc_context(_style(figure.name)):
                    canvas.savefig(written[-1], **options)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror}); name a folder of yours") from error
    return written


def inline_svg(panel: Panel) -> str:
    """A panel as an <svg> element for a page: as wide as its place, its colours left to the page's style.

    Args:
        panel: of a figure.

    Returns:
        The element, whose ids begin with the panel's name.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(_style(panel.name)):
        _drawn([panel], panel.name).savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{panel.name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{panel.name}-", text)
    for size in ("width", "height"):
        text = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", text, count=1)
    for hexadecimal, variable in STYLE_VARIABLES.items():
        text = text.replace(hexadecimal, f"var(--{variable})")
    return text.strip()


def _drawn(panels: Sequence[Panel], salt: str, grid: Grid = Grid()) -> Canvas:
    with matplotlib.rc_context(_style(salt)):
        columns = grid.columns or len(panels)
        rows, (width, height) = -(-len(panels) // columns), grid.inches
        canvas = Canvas(figsize=(width * columns, height * rows), layout="constrained")
        places = list(canvas.subplots(rows, columns, squeeze=False, sharey=grid.same_heights).flat)
        for axes, panel in zip(places, panels, strict=False):
            axes.set_title(panel.title)
            axes.set_axisbelow(True)
            panel.draw(axes)
        lines = _legends(places[: len(panels)], columns, grid.legend_inside)
        _leave_out(places, len(panels), columns, grid.same_heights)
        if not grid.legend_inside:
            canvas.set_size_inches(width * columns, height * rows + _LEGEND_LINE_INCHES * lines)
    return canvas


def _legends(places: Sequence[Axes], columns: int, inside: bool) -> int:
    """Lines of the longest legend; one below a panel serves the panels above, too, if they have the same curves."""
    lines = 0
    for axes, below in zip(places, [*places[columns:], *[None] * columns], strict=False):
        shared = below and axes.get_legend_handles_labels()[1] == below.get_legend_handles_labels()[1]
        if inside or not shared:
            lines = max(lines, _legend(axes, inside))
    return lines


def _legend(axes: Axes, inside: bool) -> int:
    """Lines of the legend; one curve alone needs none below it."""
    labels = axes.get_legend_handles_labels()[1]
    if len(labels) < (1 if inside else 2):
        return 0
    if inside:
        legend = axes.legend(loc="best", fontsize=8, handlelength=1.3, frameon=True, framealpha=0.8, edgecolor="none")
        legend.set_in_layout(False)
    else:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1, fontsize=8)
    return "\n".join(labels).count("\n") + 1


def _leave_out(places: Sequence[Axes], panels: int, columns: int, same_heights: bool) -> None:
    """Takes away places without a panel, and what a neighbour says of an axis."""
    for number, axes in enumerate(places):
        if number >= panels:
            axes.set_visible(False)
        if number + columns < panels and axes.get_xlabel() == places[number + columns].get_xlabel():
            axes.set_xlabel("")
        if same_heights and number % columns and axes.get_ylabel() == places[number - number % columns].get_ylabel():
            axes.set_ylabel("")


def _style(salt: str) -> dict[str, object]:
    # Text stays text; ids within an SVG come from the salt, so that two in one page differ.
    return {**_STYLE, "svg.fonttype": "none", "svg.hashsalt": salt}
