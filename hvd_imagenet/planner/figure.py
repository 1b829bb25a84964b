"""Predictions as a figure: where the time of a step goes, and what is left of each worker."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hvd_imagenet.errors import UserError
from hvd_imagenet.planner.prediction import LIMITS, Point

FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, which the colour-blind tell apart.
_COLOURS = ("#999999", "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#CC79A7")


def draw(path: Path, points: Sequence[Point], title: str, measured_s: Mapping[int, float]) -> None:
    """Writes the figure.

    Args:
        path: of a PNG, SVG or PDF file.
        points: predictions, two or more to make a line.
        title: what is predicted.
        measured_s: times of a step that someone has measured, by workers.

    Raises:
        UserError: matplotlib is missing, the file's name has another ending, or it cannot be written.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"--figure {path}: the name must end in one of {', '.join(FORMATS)}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            f"--figure {path}: needs matplotlib; install it with: pip install 'hvd_imagenet[report]'"
        ) from error
    ordered = sorted(points, key=lambda point: point.workers)
    workers = [point.workers for point in ordered]
    figure = Figure(figsize=(9, 4), layout="constrained")
    figure.suptitle(title)
    times, shares = figure.subplots(1, 2)
    used = [limit for limit in LIMITS if any(point.parts[limit] for point in ordered)]
    stacks = [[1e3 * point.parts[limit] for point in ordered] for limit in used]
    times.stackplot(workers, stacks, labels=used, colors=[_COLOURS[LIMITS.index(limit)] for limit in used])
    shares.plot(workers, [100 * point.efficiency for point in ordered], color="black", marker=".", label="predicted")
    if measured := {number: seconds for number, seconds in measured_s.items() if workers[0] <= number <= workers[-1]}:
        style = {"color": "black", "marker": "x", "linestyle": "none", "label": "the paper's"}
        times.plot(list(measured), [1e3 * seconds for seconds in measured.values()], **style)
        first = min(measured)
        shares.plot(list(measured), [100 * measured[first] / seconds for seconds in measured.values()], **style)
    times.set(ylabel="ms of a step", ylim=(0, None))
    shares.set(ylabel="efficiency, % of one server", ylim=(0, 105))
    for axes in (times, shares):
        axes.set_xscale("log", base=2)
        axes.set_xticks(workers, [f"{number:,}" for number in workers], rotation=45)
        axes.set_xlabel("workers")
    shares.legend(loc="lower left")
    handles, labels = times.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UserError(
            f"--figure {path}: cannot be written ({error.strerror}); name a file in a folder of yours"
        ) from (error)
