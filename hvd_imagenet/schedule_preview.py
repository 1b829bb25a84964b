"""What a recipe's learning rate looks like over a whole run, as rows, as a short table and as a plot."""

import bisect
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from hvd_imagenet.recipes import Recipe

_PLOT_COLUMNS, _PLOT_ROWS, _PLOT_POINTS = 78, 16, 1000
_PLAIN = str.maketrans("┌┐└┘─│┤┬▄▟▙▌▐▖▗▀▝▘▛▜▚▞█", "++++-|++" + "*" * 15)


class Row(NamedTuple):
    """One iteration: its number from 0, its fractional epoch, and its learning rate."""

    iteration: int
    epoch: float
    lr: float


def row(recipe: Recipe, images: int, iteration: int) -> Row:
    """The learning rate of one iteration.

    Args:
        recipe: of the run.
        images: N, number of training images.
        iteration: t, counted from 0.

    Returns:
        t, t·kn/N and η.

    Example:
        >>> row(Recipe(), images=1_281_167, iteration=0)
        Row(iteration=0, epoch=0.0, lr=0.1)
    """
    epoch = recipe.workers.progress_epochs(iteration, images)
    return Row(iteration, epoch, recipe.learning_rate(epoch))


def rows(recipe: Recipe, images: int) -> Iterator[Row]:
    """The learning rate of every iteration of a run, in order.

    Args:
        recipe: of the run.
        images: N, number of training images.

    Returns:
        A row an iteration.

    Example:
        >>> sum(1 for _ in rows(Recipe(), images=1_281_167))
        14076
    """
    learning_rate, workers = recipe.learning_rate, recipe.workers
    for iteration in range(workers.iterations(images, recipe.epochs)):
        epoch = workers.progress_epochs(iteration, images)
        yield Row(iteration, epoch, learning_rate(epoch))


def turning_points(recipe: Recipe, images: int) -> list[tuple[Row, str]]:
    """The iterations that say most of a schedule: on both sides of every change, the first and the last.

    Args:
        recipe: of the run.
        images: N, number of training images.

    Returns:
        Rows in order, with a word on each; a change that comes after the last iteration is left out.

    Example:
        >>> recipe = Recipe(minibatch=256, per_worker=32, epochs=2, decay_epochs=(1,))
        >>> for point, what in turning_points(recipe, images=512):
        ...     print(point.iteration, point.lr, what)
        0 0.1 first
        1 0.1 last before decay
        2 0.010000000000000002 decay
        3 0.010000000000000002 last
    """
    changes = [(recipe.warmup_epochs, "last of warmup", "peak")] if recipe.warms_up else []
    if recipe.schedule == "step":
        changes += [(boundary, "last before decay", "decay") for boundary in recipe.decay_epochs]
    else:
        start = recipe.warmup_epochs if recipe.warms_up else 0.0
        changes += [((start + recipe.epochs) / 2, "", "half of the cosine")]
    iterations = recipe.workers.iterations(images, recipe.epochs)
    words: dict[int, str] = {}
    for boundary, before, after in changes:
        # The comparison that the schedule itself makes, so that rounding cannot tell the two apart.
        first = bisect.bisect_left(range(iterations), boundary, key=lambda t: recipe.workers.progress_epochs(t, images))
        if first < iterations:
            words |= {first - 1: before} if before and first - 1 not in words else {}
            words[first] = after
    words |= {iterations - 1: "last", 0: "first"}
    words.pop(-1, None)
    return [(row(recipe, images, iteration), words[iteration]) for iteration in sorted(words)]


def headline(recipe: Recipe, images: int) -> str:
    """The numbers behind a schedule, in two lines.

    Args:
        recipe: of the run.
        images: N, number of training images.

    Returns:
        Lines of at most 80 columns for all sizes in use.

    Example:
        >>> print(headline(Recipe(), images=1_281_167))
        minibatch 8,192 = 256 workers of 32; 90 epochs of 1,281,167 images = 14,076 iterations
        learning rate 0.1 at minibatch 256, so 3.2 here; gradual warmup over 5 epochs, then step
    """
    iterations = recipe.workers.iterations(images, recipe.epochs)
    warmup = f"{recipe.warmup} warmup over {recipe.warmup_epochs:g} epochs, then " if recipe.warms_up else "no warmup, "
    return (
        f"minibatch {recipe.minibatch:,} = {recipe.workers.workers:,} workers of {recipe.per_worker:,}; "
        f"{recipe.epochs:g} epochs of {images:,} images = {iterations:,} iterations\n"
        f"learning rate {recipe.reference_lr:g} at minibatch {recipe.reference_minibatch:,}, "
        f"so {recipe.peak_lr:g} here; {warmup}{recipe.schedule}"
    )


def table(recipe: Recipe, images: int) -> str:
    """The turning points as text.

    Args:
        recipe: of the run.
        images: N, number of training images.

    Returns:
        Lines of at most 80 columns.

    Example:
        >>> print(table(Recipe(minibatch=256, epochs=2, decay_epochs=(1,)), images=512))
        iteration        epoch  learning rate
                0       0.0000            0.1  first
                1       0.5000            0.1  last before decay
                2       1.0000           0.01  decay
                3       1.5000           0.01  last
    """
    lines = [f"{'iteration':>9}  {'epoch':>11}  {'learning rate':>13}"]
    for point, what in turning_points(recipe, images):
        lines.append(f"{point.iteration:>9}  {point.epoch:>11.4f}  {point.lr:>13.6g}  {what}")
    return "\n".join(lines)


def plot(recipe: Recipe, images: int, plain: bool) -> str:
    """The learning rate over epochs, drawn with characters; steps on a logarithmic axis.

    Args:
        recipe: of the run.
        images: N, number of training images.
        plain: ASCII alone, for files and for terminals without UTF-8.

    Returns:
        Lines of at most 80 columns without colours.

    Example:
        >>> text = plot(Recipe(), images=1_281_167, plain=True)
        >>> text.isascii(), max(map(len, text.splitlines())) <= 80, "learning rate" in text
        (True, True, True)
    """
    import plotext  # late: the CSV needs none of it

    iterations = recipe.workers.iterations(images, recipe.epochs)
    drawn = {point.iteration for point, _ in turning_points(recipe, images)}
    drawn |= set(itertools.islice(range(iterations), 0, None, max(1, iterations // _PLOT_POINTS)))
    points = [row(recipe, images, iteration) for iteration in sorted(drawn)]
    figure = plotext.figure
    figure.clear.all()
    figure.theme("colorless")
    figure.plot_size(_PLOT_COLUMNS, _PLOT_ROWS)
    epochs, values = [point.epoch for point in points], [point.lr for point in points]
    figure.ruler("x").lim(0, recipe.epochs)
    if recipe.schedule == "step" and max(values) * 1e-9 < min(values) <= max(values) / 10:
        decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
        figure.ruler("y").ticks(list(decades), [f"{10.0**decade:g}" for decade in decades])
        figure.ruler("y").lim(decades[0], decades[-1])
        values = [math.log10(value) for value in values]
    else:
        figure.ruler("y").lim(0, max(values))
    signal = figure.signal(epochs, values, marker="hd")
    figure.draw(signal)
    figure.title("learning rate")
    figure.label("epoch", "x")
    text: str = figure.build().string(colorless=True)
    text = "\n".join(line.rstrip() for line in text.rstrip().splitlines())
    return text.translate(_PLAIN) if plain else text
