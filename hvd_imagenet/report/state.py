"""What is said of a run in one line: finished, unfinished, resumed or broken."""

import time
from collections.abc import Mapping
from typing import Any

from hvd_imagenet.report.run import Run

FINISHED, UNFINISHED, BROKEN = "finished", "unfinished", "broken"
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def kind(run: Run) -> str:
    """FINISHED, UNFINISHED or BROKEN.

    Args:
        run: that was read.
    """
    if run.problems:
        return BROKEN
    return FINISHED if run.finished else UNFINISHED


def images_of(run: Run) -> float | None:
    """N, the training images of a run, from its summary, or from how far an iteration brought it.

    Args:
        run: that was read.

    Returns:
        None before the second iteration of a run that is not finished; exact to the rounding of iterations.csv else.
    """
    images = (run.summary or {}).get("images")
    if images:
        return float(images)
    if run.recipe is None or len(run.iterations) < 2:
        return None
    last = run.iterations.iloc[-1]
    return float(last["iteration"] * run.recipe.minibatch / last["epoch"]) if last["epoch"] > 0 else None


def epochs_done(run: Run) -> float:
    """Passes over the training images that are done.

    Args:
        run: that was read.
    """
    if not len(run.iterations):
        return 0.0
    last = run.iterations.iloc[-1]
    iteration, epoch = float(last["iteration"]), float(last["epoch"])
    return epoch * (iteration + 1) / iteration if iteration else epoch


def epochs_wanted(run: Run) -> float | None:
    """Passes over the training images that the run will make, cut short by --max-iterations if that is less.

    Args:
        run: that was read.

    Returns:
        None if nothing says so.
    """
    if run.recipe is None:
        return None
    images, most = images_of(run), run.config.get("max_iterations")
    if isinstance(most, int) and images:
        return min(float(run.recipe.epochs), most * run.recipe.minibatch / images)
    return float(run.recipe.epochs)


def ago(seconds: float) -> str:
    """A time span in one or two words.

    Args:
        seconds: of it.

    Example:
        >>> ago(5), ago(200), ago(90000)
        ('5 s', '3 min', '1 d')
    """
    size, unit = next((pair for pair in _UNITS if seconds >= pair[0]), _UNITS[-1])
    return f"{max(0.0, seconds) / size:.0f} {unit}"


def sentence(run: Run, now_s: float | None = None) -> str:
    """The state of a run.

    Args:
        run: that was read.
        now_s: seconds since 1970; the clock's if None.

    Returns:
        One line without the run's name.
    """
    if run.problems:
        return f"{BROKEN}: {'; '.join(run.problems)}"
    if run.summary is not None:
        return "; ".join([FINISHED, *_remarks(run, run.summary)])
    since = ago((time.time() if now_s is None else now_s) - run.written_s)
    wanted = epochs_wanted(run)
    where = f"at epoch {epochs_done(run):.3g} of {wanted or float('nan'):.3g}"
    if not len(run.iterations):
        where = "before its first iteration"
    error = f"; validation error {run.epochs['val_error'].iloc[-1]:.2f} % so far" if len(run.epochs) else ""
    again = f"; started {run.starts} times" if run.starts > 1 else ""
    return f"{UNFINISHED} {where}, written {since} ago{again}{error}"


def _remarks(run: Run, summary: Mapping[str, Any]) -> list[str]:
    """What a finished run's summary says beside its errors."""
    remarks = []
    if summary["resumed_from_iteration"]:
        remarks.append(f"resumed at iteration {summary['resumed_from_iteration']}")
    images = summary.get("images")
    if run.recipe is not None and isinstance(images, int) and images > 0:
        whole = run.recipe.workers.iterations(images, run.recipe.epochs)
        if summary["iterations"] < whole:
            remarks.append(f"stopped by --max-iterations at {summary['iterations']} of {whole}")
    if summary.get("bad_images"):
        remarks.append(f"{summary['bad_images']} images could not be read")
    if summary.get("nonfinite_skipped"):
        remarks.append(f"{summary['nonfinite_skipped']} iterations passed over for NaN or infinity")
    return remarks
