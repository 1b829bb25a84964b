"""The table of groups and what is said of single runs: for a terminal, CSV, Markdown, LaTeX and JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from hvd_imagenet.report import state
from hvd_imagenet.report.groups import Group, as_frame, common_fields, words
from hvd_imagenet.report.run import Run

WIDTH = 80
NONE = "–"
_JSON_NUMBERS = ("runs", "seeds", "error", "error_std", "final", "final_std", "images_per_second", "state")


def formatted(groups: Sequence[Group]) -> pd.DataFrame:
    """The table as text in cells: mean ± std over seeds, in percent.

    Args:
        groups: of one report.

    Returns:
        A row a group.
    """
    frame = as_frame(groups)
    if frame.empty:
        return frame
    first = list(frame.columns[: frame.columns.get_loc("runs")])
    cells = {words(name): frame[name] for name in first}
    cells["seeds"] = frame["seeds"].map(str)
    cells["error %"] = [_percent(*pair) for pair in zip(frame["error"], frame["error_std"], strict=True)]
    cells["final %"] = [_percent(*pair) for pair in zip(frame["final"], frame["final_std"], strict=True)]
    cells["images/s"] = [NONE if math.isnan(value) else f"{value:,.0f}" for value in frame["images_per_second"]]
    cells["state"] = frame["state"]
    return pd.DataFrame(cells)


def as_terminal(groups: Sequence[Group], runs: Sequence[Run], width: int = WIDTH, now_s: float | None = None) -> str:
    """The table, and a line for each run that is not simply finished.

    Args:
        groups: of one report.
        runs: all of it.
        width: columns; where the table does not fit, its groups are numbered and named above it.
        now_s: seconds since 1970; the clock's if None.

    Returns:
        Lines.
    """
    table = formatted(groups)
    lines = []
    if not table.empty:
        lines = table.to_string(index=False).splitlines()
        if max(map(len, lines)) > width:
            lines = [f"{number}: {group.label}" for number, group in enumerate(groups, start=1)] + [""]
            kept = table[["seeds", "error %", "final %", "images/s", "state"]]
            numbered = pd.concat([pd.Series(range(1, len(groups) + 1), name="group").map(str), kept], axis=1)
            lines += numbered.to_string(index=False).splitlines()
    told = notes(groups, runs, now_s)
    return "\n".join(lines + [""] * bool(lines and told) + told)


def notes(groups: Sequence[Group], runs: Sequence[Run], now_s: float | None = None) -> list[str]:
    """What the numbers do not say: runs that are not simply finished, seeds that stand in several runs.

    Args:
        groups: of one report.
        runs: all of it.
        now_s: seconds since 1970; the clock's if None.

    Returns:
        A line each.
    """
    lines = [f"{run.path}: {said}" for run in runs if (said := state.sentence(run, now_s)) != state.FINISHED]
    for group in groups:
        seeds = [run.recipe.seed for run in group.finished if run.recipe is not None]
        for seed in sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            lines.append(f"{group.label}: seed {seed} in {seeds.count(seed)} runs, which count as one, their mean")
    return lines


def as_markdown(groups: Sequence[Group]) -> str:
    """The table in Markdown.

    Args:
        groups: of one report.
    """
    table = formatted(groups)
    return markdown_table(list(table.columns), table.to_numpy().tolist())


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""A table in Markdown.

    Args:
        header: names of columns.
        rows: cells.

    Returns:
        Lines.

    Example:
        >>> print(markdown_table(["a", "b"], [["1", "x | y"]]))
        | a | b |
        |---|---|
        | 1 | x \| y |
    """
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in [header, *rows]]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def as_latex(groups: Sequence[Group]) -> str:
    """The table in LaTeX, with the rules of the package booktabs.

    Args:
        groups: of one report.
    """
    table = formatted(groups)
    text: str = table.to_latex(index=False, escape=True)
    return text.replace("±", r"$\pm$").replace(NONE, "--")


def as_csv(groups: Sequence[Group]) -> str:
    """The table as CSV, with numbers in full.

    Args:
        groups: of one report.
    """
    text: str = as_frame(groups).to_csv(index=False, lineterminator="\n")
    return text


def as_json(groups: Sequence[Group], runs: Sequence[Run]) -> str:
    """Groups and runs as JSON: `common` fields, `groups` with `differing` ones, `runs`, and `notes`.

    Args:
        groups: of one report.
        runs: all of it.
    """
    rows = as_frame(groups).to_dict("records")
    found: list[dict[str, Any]] = []
    for group, row in zip(groups, rows, strict=True):
        numbers = {name: _number(value) for name, value in row.items() if name in _JSON_NUMBERS}
        paths = [str(run.path) for run in group.runs]
        found.append({"differing": group.differing, "seed_numbers": group.seeds, **numbers, "folders": paths})
    told = {
        "common": common_fields(groups),
        "groups": found,
        "runs": [run_row(run) for run in runs],
        "notes": notes(groups, runs),
    }
    return json.dumps(told, indent=1, default=str)


def run_row(run: Run) -> dict[str, Any]:
    """What is said of one run.

    Args:
        run: that was read.

    Returns:
        Plain data: path, recipe's name, framework, seed, state, epochs done, errors in percent, images/s.
    """
    summary: Mapping[str, Any] = run.summary or {}
    return {
        "path": str(run.path),
        "recipe": run.name,
        "framework": run.option("framework"),
        "processes": run.option("processes"),
        "seed": None if run.recipe is None else run.recipe.seed,
        "state": state.sentence(run),
        "epochs": round(state.epochs_done(run), 2),
        "error": summary.get("val_error_median_last5") if run.finished else None,
        "final": summary.get("val_error_final") if run.finished else None,
        "images_per_second": _number(run.images_per_second),
    }


def _percent(mean: float, deviation: float) -> str:
    if math.isnan(mean):
        return NONE
    return f"{mean:.2f}" if math.isnan(deviation) else f"{mean:.2f} ± {deviation:.2f}"


def _number(value: Any) -> Any:
    """None for NaN, which JSON has no word for."""
    return None if isinstance(value, float) and math.isnan(value) else value
