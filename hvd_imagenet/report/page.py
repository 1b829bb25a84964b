"""One HTML page that needs nothing else: the table, the figures, what is said of each run."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hvd_imagenet import __version__
from hvd_imagenet.report import state
from hvd_imagenet.report.figures import Figure, inline_svg
from hvd_imagenet.report.groups import Group, common_fields, shown, words
from hvd_imagenet.report.paper import comparable
from hvd_imagenet.report.run import Run
from hvd_imagenet.report.tables import NONE, formatted, notes, run_row

_RUN_COLUMNS = ("framework", "processes", "seed", "epochs", "error %", "final %", "images/s", "state")


def as_html(groups: Sequence[Group], runs: Sequence[Run], figures: Sequence[Figure], now_s: float) -> str:
    """The page.

    Args:
        groups: of one report.
        runs: all of it.
        figures: of the groups.
        now_s: seconds since 1970, for its date.

    Returns:
        HTML without scripts and without references to other files.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    table = formatted(groups)
    return environment.get_template("page.html.jinja").render(
        title=_title(groups),
        headline=_headline(groups, runs),
        date=time.strftime("%Y-%m-%d %H:%M", time.localtime(now_s)),
        version=__version__,
        columns=list(table.columns),
        rows=table.to_numpy().tolist(),
        notes=notes(groups, runs, now_s),
        figures=[_figure(figure) for figure in figures],
        run_columns=_RUN_COLUMNS,
        runs=[_run_cells(run) for run in runs],
        common=[(words(name), shown(value)) for name, value in common_fields(groups).items()],
        paper=comparable(groups[0].differing if groups else ()),
    )


def _title(groups: Sequence[Group]) -> str:
    names = sorted({run.name for group in groups for run in group.runs})
    return f"Runs of {', '.join(names)}" if names else "Runs"


def _headline(groups: Sequence[Group], runs: Sequence[Run]) -> str:
    kinds = [state.kind(run) for run in runs]
    counts = [
        f"{kinds.count(each)} {each}" for each in (state.FINISHED, state.UNFINISHED, state.BROKEN) if each in kinds
    ]
    recipes = "1 recipe" if len(groups) == 1 else f"{len(groups)} recipes"
    return f"{recipes}; runs: {', '.join(counts) or 'none'}"


def _figure(figure: Figure) -> dict[str, Any]:
    panels = [{"svg": Markup(inline_svg(panel)), "text": panel.description} for panel in figure.panels]
    return {"name": figure.name, "caption": figure.caption, "panels": panels}


def _run_cells(run: Run) -> tuple[str, list[str]]:
    row = run_row(run)
    error, final = (NONE if row[key] is None else f"{row[key]:.2f}" for key in ("error", "final"))
    speed = NONE if row["images_per_second"] is None else f"{row['images_per_second']:,.0f}"
    plain = [NONE if row[key] is None else str(row[key]) for key in ("framework", "processes", "seed")]
    return row["path"], [*plain, f"{row['epochs']:g}", error, final, speed, row["state"]]
