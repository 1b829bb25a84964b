"""Runs of one recipe are one group, whatever their seeds; the table has a row a group."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hvd_imagenet.core.metrics import mean_and_deviation
from hvd_imagenet.errors import UserError
from hvd_imagenet.report import state
from hvd_imagenet.report.run import Run

# Beside the recipe: what else the result hangs on.
_OPTIONS = ("data", "train_list", "initial_checkpoint", "synthetic", "max_iterations")


@dataclass(frozen=True)
class Statistics:
    """Of one number over seeds.

    Args:
        mean: over seeds; NaN of none.
        deviation: the sample's, over seeds; NaN of fewer than two.
    """

    mean: float
    deviation: float


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Args:
        fields: what they have in common, by the names of options.
        differing: the part of fields in which the groups of a report differ.
        runs: in the order given.
    """

    fields: Mapping[str, Any]
    differing: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def finished(self) -> tuple[Run, ...]:
        """Those that the group's numbers are made of."""
        return tuple(run for run in self.runs if run.finished)

    @property
    def label(self) -> str:
        """What tells this group from the others; the recipe's name if there are no others."""
        return ", ".join(f"{words(name)} {shown(value)}" for name, value in self.differing.items()) or self.runs[0].name

    @property
    def seeds(self) -> list[int]:
        """Of finished runs, each once."""
        return sorted({run.recipe.seed for run in self.finished if run.recipe is not None})

    @property
    def states(self) -> str:
        """Finished, unfinished or broken; how many are finished where that differs."""
        kinds = [state.kind(run) for run in self.runs]
        return kinds[0] if len(set(kinds)) == 1 else f"{kinds.count(state.FINISHED)} of {len(kinds)} finished"

    def statistics(self, values: Sequence[float | None]) -> Statistics:
        """Mean and deviation over seeds; runs of one seed (on other processes, in another framework) count once.

        Args:
            values: a number for each finished run, in their order; NaN and None are left out.
        """
        of_seed: dict[int, list[float]] = {}
        for run, value in zip(self.finished, values, strict=True):
            if run.recipe is not None and value is not None and not math.isnan(value):
                of_seed.setdefault(run.recipe.seed, []).append(float(value))
        if not of_seed:
            return Statistics(math.nan, math.nan)
        return Statistics(*mean_and_deviation([sum(each) / len(each) for each in of_seed.values()]))

    def of_summary(self, key: str) -> Statistics:
        """Mean and deviation of a number of summary.json.

        Args:
            key: its name.
        """
        return self.statistics([(run.summary or {}).get(key) for run in self.finished])


def grouped(runs: Sequence[Run], by: Sequence[str] = ()) -> list[Group]:
    """The groups of runs, in the order of what they differ in; runs without a recipe belong to none.

    Args:
        runs: that were read.
        by: names of config.yaml or summary.json that separate groups too.

    Returns:
        The groups.

    Raises:
        UserError: no run knows one of the names.

    Example:
        >>> grouped([])
        []
    """
    for name in by:
        known = sorted({key for run in runs for key in (*run.config, *(run.summary or {}))})
        if runs and name not in known:
            raise UserError(f"--by {name}: no run says anything of it; they have {', '.join(known)}")
    members: dict[str, list[Run]] = {}
    fields_of: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run.recipe is not None:
            fields = _fields(run, by)
            key = json.dumps(fields, sort_keys=True, default=str)
            members.setdefault(key, []).append(run)
            fields_of[key] = fields
    names = [name for fields in fields_of.values() for name in fields]
    differing = [
        name for name in dict.fromkeys(names) if len({_key(each.get(name)) for each in fields_of.values()}) > 1
    ]
    if "epochs" in differing and len({_decay_fractions(fields) for fields in fields_of.values()}) == 1:
        differing = [name for name in differing if name != "decay_epochs"]  # they follow from the length
    groups = [
        Group(fields_of[key], {name: fields_of[key].get(name) for name in differing}, tuple(members[key]))
        for key in members
    ]
    return sorted(groups, key=lambda group: [_rank(value) for value in group.differing.values()])


def common_fields(groups: Sequence[Group]) -> dict[str, Any]:
    """What all groups have in common.

    Args:
        groups: of one report.

    Returns:
        Values by name; nothing of no groups.
    """
    if not groups:
        return {}
    first = groups[0].fields
    return {name: first[name] for name in first if all(group.fields.get(name) == first[name] for group in groups)}


def as_frame(groups: Sequence[Group]) -> pd.DataFrame:
    """A row a group: what it differs in, its seeds, errors in percent, images/s and state.

    Args:
        groups: of one report.

    Returns:
        Numbers as numbers; NaN where there are none.
    """
    rows = []
    for group in groups:
        error, final = group.of_summary("val_error_median_last5"), group.of_summary("val_error_final")
        speed = group.statistics([run.images_per_second for run in group.finished])
        differing = {name: shown(value) for name, value in group.differing.items()}
        rows.append(
            (differing or {"recipe": group.runs[0].name})
            | {
                "runs": len(group.runs),
                "seeds": len(group.seeds),
                "error": error.mean,
                "error_std": error.deviation,
                "final": final.mean,
                "final_std": final.deviation,
                "images_per_second": speed.mean,
                "state": group.states,
            }
        )
    return pd.DataFrame(rows)


def words(name: str) -> str:
    """An option's name as words.

    Args:
        name: with underscores.

    Example:
        >>> words("image_size_px")
        'image size px'
    """
    return name.replace("_", " ")


def shown(value: object) -> str:
    """A value in a table.

    Args:
        value: of an option.

    Example:
        >>> shown(0.1), shown(None), shown(True), shown((8, 12.0)), shown(8192)
        ('0.1', 'none', 'yes', '8 12', '8192')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(shown(each) for each in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _fields(run: Run, by: Sequence[str]) -> dict[str, Any]:
    assert run.recipe is not None
    fields = dataclasses.asdict(run.recipe)
    del fields["seed"]
    options = {name: run.config.get(name) or None for name in _OPTIONS}
    extra = {name: run.option(name) for name in by if name not in fields}
    return _plain({**fields, **options, **extra})


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """With whole floats as integers, so that 90 and 90.0 are the same."""

    def plain(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(plain(each) for each in value)
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return {name: plain(value) for name, value in fields.items()}


def _decay_fractions(fields: Mapping[str, Any]) -> tuple[float, ...]:
    """Where the learning rate decays, as fractions of the run."""
    return tuple(round(boundary / fields["epochs"], 9) for boundary in fields["decay_epochs"])


def _key(value: object) -> str:
    return json.dumps(value, default=str)


def _rank(value: object) -> tuple[int, float, str]:
    """Numbers in their order, then words in theirs."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0, float(value), "")
    return (1, 0.0, str(value))
