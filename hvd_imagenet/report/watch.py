"""A live run in a terminal: drawn again and again until the run is finished."""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pandas as pd

from hvd_imagenet.report import state
from hvd_imagenet.report.curves import smoothed
from hvd_imagenet.report.run import Run, read_run
from hvd_imagenet.report.tables import NONE, WIDTH

DEFAULT_SECONDS = 5.0
ROWS = 24
_EPOCHS, _PLOT_POINTS, _TICKS = 8, 300, 4
_OTHER_LINES = 8  # headline, recipe, progress, header of the table, state, and what is empty between them
_CLEAR, _HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"
_COLUMNS = {
    "epoch": "epoch",
    "lr": "lr",
    "train_loss": "loss",
    "train_error": "error %",
    "val_error": "val %",
    "val_error_top5": "val top-5 %",
    "images_per_second": "images/s",
    "data_wait_percent": "waiting %",
}


def watch(path: Path, interval_s: float, out: TextIO | None = None, sleep: Callable[[float], None] = time.sleep) -> Run:
    """Shows a run until it is finished: on a terminal a view that is drawn again, elsewhere a line an epoch.

    Args:
        path: the run's folder.
        interval_s: between two looks at it.
        out: where to; the standard output if None.
        sleep: waits for so many seconds.

    Returns:
        The finished run.
    """
    out = sys.stdout if out is None else out
    told = 0
    if out.isatty():
        out.write(_CLEAR)
    while True:
        run = read_run(path)
        if out.isatty():
            _draw(view(run, *shutil.get_terminal_size((WIDTH, ROWS))), out)
        else:
            for row in run.epochs.iloc[told:].itertuples():
                error = f"training error {row.train_error:.2f} %, validation error {row.val_error:.2f} %"
                print(f"epoch {row.epoch + 1}: {error}, {row.images_per_second:,.0f} images/s", file=out, flush=True)
            told = max(told, len(run.epochs))
        if run.finished:
            if not out.isatty():
                print(f"{path}: {state.sentence(run)}", file=out, flush=True)
            return run
        sleep(interval_s)


def view(run: Run, width: int = WIDTH, rows: int = ROWS, now_s: float | None = None) -> list[str]:
    """What is shown of a run.

    Args:
        run: that was read.
        width: columns of the terminal.
        rows: of the terminal; epochs and the plot share what is left of them.
        now_s: seconds since 1970; the clock's if None.

    Returns:
        Lines, none longer than width or 80 columns.
    """
    width = min(width, WIDTH)
    plot_rows = 12 if rows >= 30 else 8
    epochs = max(1, min(_EPOCHS, rows - 1 - _OTHER_LINES - plot_rows))
    recipe = run.recipe
    lines = [f"{run.path}: {run.name}"]
    if recipe is not None:
        workers = f"minibatch {recipe.minibatch:,} = {recipe.workers.workers:,} workers of {recipe.per_worker:,}"
        lines += [f"{recipe.model}, {workers}, {run.option('framework') or 'torch'}, seed {recipe.seed}"]
        lines += [progress(run, width)]
    if len(run.epochs):
        lines += ["", *_epochs(run, epochs)]
    losses = run.iterations.set_index("iteration")["loss"].dropna()
    if len(losses) > 1:
        lines += ["", *_plot(losses, width, plot_rows)]
    lines += ["", state.sentence(run, now_s)]
    return [line if len(line) <= width else line[: width - 1] + "…" for line in lines]


def progress(run: Run, width: int = WIDTH) -> str:
    """How far a run is, and how long it will take at the last epoch's speed, without validation.

    Args:
        run: with a recipe.
        width: columns.

    Returns:
        A line.
    """
    done, wanted = state.epochs_done(run), state.epochs_wanted(run) or 1.0
    share = min(1.0, done / wanted)
    images, speed = state.images_of(run), run.images_per_second
    left = ""
    if images and speed > 0 and share < 1 and not run.finished:
        left = f", {state.ago((wanted - done) * images / speed)} left"
    words = f" {100 * share:3.0f} %, epoch {done:.2f} of {wanted:g}{left}"
    cells = max(10, width - len(words) - 2)
    full = round(share * cells)
    return f"[{'#' * full}{'-' * (cells - full)}]{words}"


def _epochs(run: Run, count: int) -> list[str]:
    """The last rows of metrics.csv."""
    table = run.epochs.tail(count)[list(_COLUMNS)].rename(columns=_COLUMNS)
    table["epoch"] += 1
    digits = {"lr": "{:.4g}", "loss": "{:.4f}", "images/s": "{:,.0f}"}
    cells = {
        name: [NONE if pd.isna(value) else digits.get(name, "{:.2f}").format(value) for value in table[name]]
        for name in table.columns[1:]
    }
    text: str = pd.DataFrame({"epoch": table["epoch"].map(str).tolist(), **cells}).to_string(index=False)
    return text.splitlines()


def _plot(losses: pd.Series, width: int, rows: int) -> list[str]:
    """The loss by iteration, drawn with characters."""
    import plotext

    line = smoothed(losses)
    line = line.iloc[:: max(1, len(line) // _PLOT_POINTS)]
    figure = plotext.figure
    figure.clear.all()
    figure.theme("colorless")
    figure.plot_size(width - 2, rows)
    first, last = int(line.index[0]), int(line.index[-1])
    marks = sorted({first + (last - first) * part // _TICKS for part in range(_TICKS + 1)})
    figure.ruler("x").ticks(marks, [str(mark) for mark in marks])
    figure.ruler("y").lim(min(0.0, line.min()), line.max())
    figure.draw(figure.signal(line.index.tolist(), line.tolist(), marker="hd"))
    figure.title("training loss by iteration")
    text: str = figure.build().string(colorless=True)
    return [row.rstrip() for row in text.rstrip().splitlines()]


def _draw(lines: list[str], out: TextIO) -> None:
    out.write(_HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_BELOW)
    out.flush()
