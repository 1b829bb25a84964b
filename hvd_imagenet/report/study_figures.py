"""The figures of the study of minibatches, as the paper has them, of what has been trained so far."""

import re
import textwrap
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from hvd_imagenet.recipe import WARMUPS
from hvd_imagenet.report.figures import Figure, Grid, Panel
from hvd_imagenet.report.minibatches import draw_paper
from hvd_imagenet.report.palette import INK
from hvd_imagenet.report.paper import FIGURE_1
from hvd_imagenet.report.study import Point, Study
from hvd_imagenet.report.study_panels import doublings, draw_epochs, draw_errors, multiples, scale_errors
from hvd_imagenet.report.study_words import CAPTIONS

_PAPERS_REFERENCE = 256
_OWN_HEIGHTS = ("figure1", "per_worker", "lars")
_LEGEND_BELOW = ("figure2", "figure5")  # the curves leave it no room
_README_INCHES = 9.2
_HEIGHTS = {2: 3.2}
_HEIGHT = 2.7  # of narrower panels
_LABEL = 28
_COLUMNS = {"train_error": "training", "val_error": "validation"}
_RATE = ("reference_lr", "reference_minibatch")
_LARS = ("opt", "trust_coefficient", *_RATE)
_TIE = "\N{NO-BREAK SPACE}"
Panels = tuple[int, list[Panel]]


def study_figures(study: Study) -> list[Figure]:
    """The figures that there are points for.

    Args:
        study: that was read.

    Returns:
        In the paper's order, then the others.
    """
    found = {
        "figure1": _minibatches(study),
        "figure2": _warmups(study),
        "figure3": _against_reference(study),
        "figure5": _variants(study, _RATE, lambda point: f"η {_peak_lr(point):.3g}"),
        "last_gamma": _variants(study, ("zero_last_gamma",), _gamma),
        "per_worker": _per_worker(study),
        "lars": _lars(study),
    }
    return [
        Figure(name, CAPTIONS[name], tuple(panels), _grid(name, columns))
        for name, (columns, panels) in found.items()
        if panels
    ]


def _grid(name: str, columns: int) -> Grid:
    inches = (_README_INCHES / columns, _HEIGHTS.get(columns, _HEIGHT))
    return Grid(columns, inches, same_heights=name not in _OWN_HEIGHTS, legend_inside=name not in _LEGEND_BELOW)


def _minibatches(study: Study) -> Panels:
    """Two scales, aligned by the multiples of each one's reference: the errors are of other data."""
    points, reference = study.varied(), study.recipe.reference_minibatch
    if len(points) < 2:
        return 2, []
    times = [
        *(point.minibatch / reference for point in points),
        *(point.minibatch / _PAPERS_REFERENCE for point in FIGURE_1),
    ]
    rest = " that did not diverge" if any(point.diverged for point in points) else ""
    steps = [2.0**power for power in range(-20, 20) if min(times) <= 2.0**power <= max(times)]

    def ours(axes: Axes) -> None:
        draw_errors(axes, {f"mean over seeds{rest}": points}, lambda point: point.minibatch)
        mean = study.reference.statistics[0] if study.reference and study.reference.errors else None
        _by_multiples(axes, steps, reference, mean)

    def papers(axes: Axes) -> None:
        draw_paper(axes)
        scale_errors(axes, [error for point in points for error in point.errors])  # as ours, for the shapes to compare
        (mean,) = (point.error for point in FIGURE_1 if point.minibatch == _PAPERS_REFERENCE)
        _by_multiples(axes, steps, _PAPERS_REFERENCE, mean)

    said = "; ".join(f"{point.said} % at {point.minibatch}" for point in points)
    about = "Validation error of the paper against minibatch: about 23.5 % up to 8,192 images, 33.96 % at 65,536."
    return 2, [
        Panel(
            "minibatch",
            f"here: {study.recipe.model} on {_images(study)}",
            f"Validation error against minibatch: {said}.",
            ours,
        ),
        Panel("paper", "the paper, Figure 1: ResNet-50 on ImageNet", about, papers),
    ]


def _by_multiples(axes: Axes, steps: Sequence[float], reference: int, mean: float | None) -> None:
    doublings(axes, [step * reference for step in steps], multiples(reference))
    axes.set_xlabel(f"minibatch kn (images), and in multiples of the reference, {reference}")
    if mean is not None:
        axes.axhline(mean, color=INK, linestyle="--", linewidth=0.8, zorder=1, label="the reference's mean")


def _warmups(study: Study) -> Panels:
    """A column for each warmup, of the minibatches that were trained with another than the recipe's."""
    sizes, points = _sizes_changed(study, "warmup"), study.varied("warmup")
    return len(WARMUPS), [
        _curves(study, f"{warmup.replace('none', 'no')} warmup", found, column, _size)
        for column in _COLUMNS
        for warmup in reversed(WARMUPS)
        for found in [[each for each in points if each.minibatch in sizes and each.settings["warmup"] == warmup]]
        if sizes
    ]


def _against_reference(study: Study) -> Panels:
    points = [point for point in study.varied() if point is not study.reference]
    return 3, [_curves(study, f"kn {point.minibatch}", [point], "train_error", _size) for point in points]


def _variants(study: Study, names: Sequence[str], words: Callable[[Point], str]) -> Panels:
    """A column for each minibatch that was trained with other values of some settings."""
    sizes = _sizes_changed(study, *names)
    return max(2, len(sizes)), [
        _curves(study, f"kn {size}", _of_size(study, size, *names), column, words)
        for column in _COLUMNS
        for size in sizes
    ]


def _per_worker(study: Study) -> Panels:
    """The error against n, and curves."""
    name = "per_worker"
    sizes = _sizes_changed(study, name)
    if not sizes:
        return 3, []
    lines = {f"kn {size}": sorted(_of_size(study, size, name), key=_images_of_a_worker) for size in sizes}

    def draw(axes: Axes) -> None:
        draw_errors(axes, lines, _images_of_a_worker)
        numbers = {_images_of_a_worker(point) for line in lines.values() for point in line}
        doublings(axes, sorted(numbers), "{:g}".format)
        axes.set_xlabel("images n of a worker")

    said = "; ".join(f"{point.said} % at {point.label}" for line in lines.values() for point in line)
    return 3, [
        Panel("per-worker", "error against n", f"Validation error against n: {said}.", draw),
        *(
            _curves(study, f"kn {size}", lines[f"kn {size}"], column, lambda point: f"n {_images_of_a_worker(point):g}")
            for size in sizes
            for column in _COLUMNS
        ),
    ]


def _lars(study: Study) -> Panels:
    """The error against the minibatch, and a panel of curves for each minibatch with LARS."""
    lars = [point for point in study.varied(*_LARS) if "opt" in point.changes]
    if not lars:
        return 2, []
    lines = {"SGD": study.varied(), "LARS": lars}
    lines = {label: points for label, points in lines.items() if points}
    sizes = sorted({point.minibatch for points in lines.values() for point in points})

    def draw(axes: Axes) -> None:
        draw_errors(axes, lines, lambda point: point.minibatch)
        doublings(axes, sizes, multiples(study.recipe.reference_minibatch))
        axes.set_xlabel("minibatch kn (images), and in multiples of the reference")

    said = "; ".join(f"{label} {point.said} % at {point.minibatch}" for label, line in lines.items() for point in line)
    curves = [
        _curves(study, f"kn {size}", found, "train_error", lambda point: str(point.settings["opt"]).upper())
        for size in sorted({point.minibatch for point in lars})
        for found in [[point for points in lines.values() for point in points if point.minibatch == size]]
    ]
    return 2, [Panel("lars", "error against kn", f"Validation error against minibatch: {said}.", draw), *curves]


def _curves(study: Study, title: str, points: Sequence[Point], column: str, words: Callable[[Point], str]) -> Panel:
    """Errors against epoch, with the reference's in grey."""
    reference = study.reference
    named = [(_label(words(point), point), point) for point in points]
    if reference and not any(point is reference for point in points):
        named = [(_label(_size(reference), reference), reference), *named]
    what = _COLUMNS[column]
    at_the_end = "; ".join(" ".join(label.split()) for label, _ in named)
    about = f"{what.capitalize()} error against epoch; at the end, in validation: {at_the_end}."
    return Panel(
        f"{title}-{column}", f"{title}, {what}", about, lambda axes: draw_epochs(axes, named, column, reference)
    )


def _label(words: str, point: Point) -> str:
    error = f"{point.said} %" if point.errors else point.said
    tied = error.replace(" ± ", f"{_TIE}±{_TIE}").replace(" %", f"{_TIE}%")
    seeds = " " + f"({point.seeds} seeds)".replace(" ", _TIE) if point.seeds else ""
    return textwrap.fill(f"{words}: {tied}{seeds}", _LABEL)


def _images(study: Study) -> str:
    return re.split(r"-\d", study.data)[0].replace("-", " ")


def _size(point: Point) -> str:
    return f"kn {point.minibatch}"


def _gamma(point: Point) -> str:
    return f"last γ {0 if point.settings['zero_last_gamma'] else 1}"


def _peak_lr(point: Point) -> float:
    lr, reference = (float(point.settings[name]) for name in _RATE)
    return lr * point.minibatch / reference


def _images_of_a_worker(point: Point) -> float:
    return float(point.settings["per_worker"])


def _sizes_changed(study: Study, *names: str) -> list[int]:
    """Minibatches of points with another value than the recipe's."""
    return sorted({point.minibatch for point in study.varied(*names) if point.changes})


def _of_size(study: Study, size: int, *names: str) -> list[Point]:
    return sorted((point for point in study.varied(*names) if point.minibatch == size), key=_peak_lr)
