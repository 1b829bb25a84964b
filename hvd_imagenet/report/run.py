"""One run folder, read as far as it can be read, with what is wrong with it."""

import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from hvd_imagenet.recipes import Recipe
from hvd_imagenet.report.recipe_of_config import recipe_of_config
from hvd_imagenet.run_folder import EPOCH_COLUMNS, ITERATION_COLUMNS, SUMMARY

CONFIG, METRICS, ITERATIONS = "config.yaml", "metrics.csv", "iterations.csv"
FILES = (CONFIG, METRICS, ITERATIONS, SUMMARY)
_LATER_COLUMNS = ("data_wait_percent",)  # runs of earlier versions have none
_SUMMARY_KEYS = ("val_error_median_last5", "val_error_final", "iterations", "resumed_from_iteration")
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Args:
        path: the folder.
        config: of config.yaml.
        recipe: that config.yaml says; None if it says none.
        epochs: of metrics.csv.
        iterations: of iterations.csv.
        summary: of summary.json; None if the run is not finished.
        starts: how often the run was started; 0 if nothing tells.
        written_s: when one of its files was written last, in seconds since 1970.
        problems: what is missing or wrong; the run is broken if there is any.
    """

    path: Path
    config: Mapping[str, Any]
    recipe: Recipe | None
    epochs: pd.DataFrame
    iterations: pd.DataFrame
    summary: Mapping[str, Any] | None
    starts: int = 0
    written_s: float = 0.0
    problems: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the named recipe that the run began with."""
        return str(self.config.get("recipe", "of your own"))

    @property
    def finished(self) -> bool:
        """Whether all of its iterations are done and its files are whole."""
        return self.summary is not None and not self.problems

    @property
    def images_per_second(self) -> float:
        """The median over epochs; NaN before the first is over."""
        return float(self.epochs["images_per_second"].median())

    def option(self, name: str) -> Any:
        """What config.yaml, or else summary.json, says of a name; None if neither does."""
        return self.config.get(name, (self.summary or {}).get(name))


def read_run(path: Path) -> Run:
    """Reads a run folder; what cannot be read is told, not raised.

    Args:
        path: the folder, which holds one of FILES at least.

    Returns:
        The run.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "config.yaml").write_text("recipe: digits")
        ...     read_run(Path(folder)).problems
        ('no metrics.csv', 'no iterations.csv')
    """
    problems: list[str] = []
    config = _read_config(path, problems)
    recipe = None
    if config:
        try:
            recipe = recipe_of_config(config)
        except ValueError as error:
            problems.append(f"{CONFIG}: {error}")
    epochs = _read_table(path / METRICS, EPOCH_COLUMNS, "epoch", problems)
    iterations = _read_table(path / ITERATIONS, ITERATION_COLUMNS, "iteration", problems)
    summary = _read_summary(path, problems)
    if summary is not None and not problems:
        problems += _disagreements(summary, epochs, iterations)
    times = [each.stat().st_mtime for each in (path / name for name in FILES) if each.exists()]
    starts = len(list(path.glob("events.out.tfevents.*")))
    written_s = max(times, default=time.time())
    return Run(path, config, recipe, epochs, iterations, summary, starts, written_s, tuple(problems))


def _read_config(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        config = yaml.safe_load((path / CONFIG).read_text())
    except FileNotFoundError:
        problems.append(f"no {CONFIG}")
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: of a date, or of UTF-8
        problems.append(f"{CONFIG} cannot be read ({_line(error)})")
        return {}
    if not isinstance(config, dict) or not config:
        problems.append(f"{CONFIG} holds no options")
        return {}
    # Nested collections are nobody's options, and YAML's aliases can make them exponentially longer than the file.
    nested = [str(name) for name, value in config.items() if not _is_plain(value)]
    if nested:
        problems.append(f"{CONFIG} has a collection where a value belongs: {', '.join(nested)}")
        return {}
    return {str(name): value for name, value in config.items()}


def _is_plain(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(each is None or isinstance(each, str | int | float) for each in values)


def _read_summary(path: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        summary = json.loads((path / SUMMARY).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{SUMMARY} cannot be read ({_line(error)})")
        return None
    missing = [key for key in _SUMMARY_KEYS if key not in summary] if isinstance(summary, dict) else list(_SUMMARY_KEYS)
    if missing:
        problems.append(f"{SUMMARY} lacks {', '.join(missing)}")
        return None
    words = [key for key in _SUMMARY_KEYS if not isinstance(summary[key], int | float | None)]
    if words:
        problems.append(f"{SUMMARY} has something else than numbers under {', '.join(words)}")
        return None
    return dict(summary)


def _read_table(path: Path, columns: tuple[str, ...], number: str, problems: list[str]) -> pd.DataFrame:
    """The whole rows of a CSV file, numbered without a gap; no rows where something is wrong."""
    nothing = pd.DataFrame({column: pd.Series(dtype="float64") for column in columns})
    try:
        text = path.read_text()
        # A killed run, or one that is just writing, may leave half a row behind the last whole one.
        table = pd.read_csv(io.StringIO(text[: text.rfind("\n") + 1]))
    except FileNotFoundError:
        problems.append(f"no {path.name}")
        return nothing
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        problems.append(f"{path.name} cannot be read ({_line(error)})")
        return nothing
    missing = [column for column in columns if column not in table and column not in _LATER_COLUMNS]
    if missing:
        problems.append(f"{path.name} lacks the columns {', '.join(missing)}")
        return nothing
    table = table.reindex(columns=list(columns))
    if len(table):
        words = [column for column in columns if not pd.api.types.is_numeric_dtype(table[column])]
        if words:
            problems.append(f"{path.name} has something else than numbers under {', '.join(words)}")
            return nothing
        if table[number].tolist() != list(range(len(table))):
            gap = next(row for row, value in enumerate(table[number].tolist()) if row != value)
            problems.append(f"{path.name} has no {number} {gap}, but later ones")
            return nothing
    return table.astype("float64").astype({number: "int64"})


def _disagreements(summary: Mapping[str, Any], epochs: pd.DataFrame, iterations: pd.DataFrame) -> list[str]:
    """What a finished run's files say differently."""
    done = summary["iterations"]
    if done != len(iterations):
        return [f"{ITERATIONS} has {len(iterations)} iterations, {SUMMARY} says {done}"]
    final = summary["val_error_final"]
    last = float(epochs["val_error"].iloc[-1]) if len(epochs) else None
    if final is not None and (last is None or abs(final - last) > _ROUNDING):
        return [f"{METRICS} ends with a validation error of {last}, {SUMMARY} says {final}"]
    return []


def _line(error: Exception) -> str:
    """An error in one short line."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = " ".join(str(words).split())
    return line if len(line) <= 100 else line[:99] + "…"
