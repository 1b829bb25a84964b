"""The rows of benchmarks/minibatch_study.py: trainings, and points, whose trainings differ in their seed alone."""

import csv
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hvd_imagenet.core.metrics import mean_and_deviation
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import Recipe, named
from hvd_imagenet.report.groups import shown, words

RECIPE = "cluttered_digits"
LEAST_SEEDS = 3
_PLACE: Mapping[str, "Value"] = {"framework": "torch", "processes": 1.0}
_COLUMNS = (
    "recipe_hash", *_PLACE, "data", "minibatch", "seed", "outcome", "val_error_median_last5", "val_errors",
    "train_errors", "data_sha256",
)  # fmt: skip
Value = str | float | bool


@dataclass(frozen=True)
class Training:
    """A row.

    Args:
        seed: of the recipe.
        run: hash of the recipe, framework and processes, as the run's folder is called.
        diverged: whether it ended with a loss that is no number.
        error: median validation error of the last five epochs, in percent; None if it diverged.
        errors: of every epoch, by val_error and train_error.
    """

    seed: int
    run: str
    diverged: bool
    error: float | None
    errors: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Point:
    """Trainings that differ in their seed alone.

    Args:
        settings: what they have in common, by the names of a recipe's fields, with framework and processes.
        changes: those of them that are not the study's recipe's, minibatch left out.
        trainings: in the order of their seeds.
        wanted: how many seeds there are to be.
    """

    settings: Mapping[str, Value]
    changes: Mapping[str, Value]
    trainings: tuple[Training, ...]
    wanted: int = LEAST_SEEDS

    @property
    def minibatch(self) -> int:
        """Images in one iteration."""
        return int(self.settings["minibatch"])

    @property
    def errors(self) -> list[float]:
        """Of the seeds that did not diverge, in percent."""
        return [training.error for training in self.trainings if training.error is not None]

    @property
    def diverged(self) -> int:
        """How many seeds did."""
        return sum(training.diverged for training in self.trainings)

    @property
    def statistics(self) -> tuple[float, float]:
        """Mean and deviation of the errors; NaN where there are too few."""
        return mean_and_deviation(self.errors) if self.errors else (math.nan, math.nan)

    @property
    def seeds(self) -> str:
        """How many there are, where that is fewer than wanted; nothing else."""
        done = len(self.trainings)
        return f"{done} of {self.wanted}" if done < self.wanted else ""

    @property
    def label(self) -> str:
        """The minibatch, and what else is not the recipe's."""
        others = [f"{words(name)} {shown(value)}" for name, value in self.changes.items()]
        return ", ".join([f"kn {self.minibatch}", *others])

    @property
    def said(self) -> str:
        """The error, as text; of seeds that diverged the number, and the others' error as such."""
        return error_words(*self.statistics, len(self.errors), self.diverged)


@dataclass(frozen=True)
class Study:
    """The points of one file.

    Args:
        recipe: whose minibatch and other settings they vary.
        data: what the images are called.
        points: in the order of their minibatches and changes.
    """

    recipe: Recipe
    data: str
    points: tuple[Point, ...]

    def varied(self, *names: str) -> list[Point]:
        """Points that are the recipe's but for the minibatch and for some settings, which may be the recipe's too.

        Args:
            names: of these settings.
        """
        return [point for point in self.points if set(point.changes) <= set(names)]

    @property
    def reference(self) -> Point | None:
        """What large minibatches must match; None if it has not been trained."""
        return next((point for point in self.varied() if point.minibatch == self.recipe.reference_minibatch), None)


def error_words(mean: float, deviation: float, seeds: int, diverged: int) -> str:
    """An error that hides no seed that diverged.

    Args:
        mean: over the others, in percent; NaN of none.
        deviation: over the others; NaN of fewer than two.
        seeds: how many others there are.
        diverged: how many did.

    Example:
        >>> error_words(15.204, 0.31, 5, 0), error_words(15.2, math.nan, 1, 0)
        ('15.20 ± 0.31', '15.20')
        >>> error_words(15.2, 0.31, 3, 2), error_words(math.nan, math.nan, 0, 5)
        ('2 of 5 diverged, the rest 15.20 ± 0.31', 'all 5 diverged')
    """
    error = "" if math.isnan(mean) else f"{mean:.2f}"
    error += "" if math.isnan(deviation) else f" ± {deviation:.2f}"
    if not diverged:
        return error
    if not seeds:
        return f"all {diverged} diverged" if diverged > 1 else "diverged"
    return f"{diverged} of {diverged + seeds} diverged, the rest {error}"


def read_study(path: Path) -> Study:
    """Reads the CSV file; how many seeds are wanted stands in the JSON file beside it, if there is one.

    Args:
        path: of minibatch_study.csv.

    Returns:
        Its points.

    Raises:
        UserError: it cannot be read, or its rows are of several sets of images.
    """
    rows = _rows(path)
    images = sorted({f"{row['data']} ({row['data_sha256']})" for row in rows})
    if len(images) > 1:
        raise UserError(f"--study {path}: must be of one set of images, not of {', '.join(images)}; give each its file")
    recipe = named(RECIPE)
    usual = {**{name: _value(str(value)) for name, value in dataclasses.asdict(recipe).items()}, **_PLACE}
    members: dict[tuple[tuple[str, Value], ...], dict[int, Training]] = {}
    for number, row in enumerate(rows, start=1):
        try:
            settings = tuple((name, _value(row[name])) for name in row if name in usual and name != "seed")
            training = _training(row)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"--study {path}: row {number} cannot be read ({error}); remove it, and train it again"
            ) from error
        members.setdefault(settings, {})[training.seed] = training  # of two rows of one run the later one
    wanted = _wanted(path.with_suffix(".json"))
    points = [_point(dict(settings), usual, list(of.values()), wanted) for settings, of in members.items()]
    return Study(recipe, rows[0]["data"], tuple(sorted(points, key=_order)))


def told(study: Study) -> str:
    """The points as lines, and how many of them have fewer seeds than wanted.

    Args:
        study: that was read.

    Returns:
        Lines.
    """
    rows = [(point.seeds or str(len(point.trainings)), point.said, point.label) for point in study.points]
    table = [("seeds", "error %", f"of {study.recipe.model}, {study.data}"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(2)]
    lines = [f"{seeds:>{widths[0]}}  {error:<{widths[1]}}  {label}" for seeds, error, label in table]
    few = sum(bool(point.seeds) for point in study.points)
    return "\n".join(lines + ["", f"{few} of {len(rows)} points have fewer seeds than wanted"] * bool(few))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = "name the file that benchmarks/minibatch_study.py writes"
        raise UserError(f"--study {path}: cannot be read ({reason}); {remedy}") from error
    missing = [name for name in _COLUMNS if not rows or name not in rows[0]]
    if missing:
        lacks = f"lacks the columns {', '.join(missing)}" if rows else "holds no row"
        raise UserError(f"--study {path}: {lacks}; name the file that benchmarks/minibatch_study.py writes")
    return rows


def _training(row: Mapping[str, str]) -> Training:
    error = row["val_error_median_last5"]
    return Training(
        seed=int(row["seed"]),
        run="-".join(row[name] for name in ("recipe_hash", *_PLACE)),
        diverged=row["outcome"] == "diverged",
        error=float(error) if error else None,
        errors={name: tuple(map(float, row[f"{name}s"].split())) for name in ("val_error", "train_error")},
    )


def _point(
    settings: Mapping[str, Value], usual: Mapping[str, Value], trainings: Sequence[Training], wanted: Mapping[str, int]
) -> Point:
    changes = {name: value for name, value in settings.items() if name != "minibatch" and value != usual[name]}
    in_order = tuple(sorted(trainings, key=lambda training: training.seed))
    seeds = max([wanted.get(training.run, 0) for training in in_order]) or LEAST_SEEDS
    return Point(settings, changes, in_order, seeds)


def _order(point: Point) -> tuple[int, list[tuple[str, str, float]]]:
    def rank(value: Value) -> tuple[str, float]:
        return ("", float(value)) if isinstance(value, int | float) else (value, 0.0)

    return point.minibatch, [(name, *rank(value)) for name, value in point.changes.items()]


def _wanted(path: Path) -> dict[str, int]:
    """How many seeds a run's point is to have, the most if it belongs to several; nothing where no file says it."""
    try:
        points = json.loads(path.read_text())["points"]
        runs = [(str(run), len(point["runs"])) for point in points for run in point["runs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(sorted(runs, key=lambda pair: pair[1]))


def _value(text: str) -> Value:
    """A number where it is one, so that 18 and 18.0 are the same."""
    if text in ("True", "False"):
        return text == "True"
    try:
        return float(text)
    except ValueError:
        return text
