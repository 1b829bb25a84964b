"""A report as the command line asks for it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hvd_imagenet.asked_file import write_asked_for
from hvd_imagenet.errors import UserError
from hvd_imagenet.report import benchmarks, tables
from hvd_imagenet.report.figures import figures_of, save
from hvd_imagenet.report.finding import run_folders
from hvd_imagenet.report.groups import grouped
from hvd_imagenet.report.page import as_html
from hvd_imagenet.report.run import read_run
from hvd_imagenet.report.study import read_study, told
from hvd_imagenet.report.study_figures import study_figures
from hvd_imagenet.report.watch import watch


@dataclass(frozen=True)
class Files:
    """What a report is written to beside the terminal; None for not.

    Args:
        csv: of the table.
        markdown: of the table.
        latex: of the table.
        json: of groups and runs.
        out: folder of figures.
        html: of the page.
    """

    csv: Path | None = None
    markdown: Path | None = None
    latex: Path | None = None
    json: Path | None = None
    out: Path | None = None
    html: Path | None = None


def report_runs(paths: Sequence[Path], by: Sequence[str], files: Files) -> str:
    """Reads runs and writes what is asked for.

    Args:
        paths: run folders, or folders that hold some.
        by: names that separate groups beside the recipe.
        files: to write.

    Returns:
        What the terminal shows.

    Raises:
        UserError: a path is no run, a name is unknown, or a file cannot be written.
    """
    runs = [read_run(folder) for folder in run_folders(paths)]
    groups = grouped(runs, by)
    shown = tables.as_terminal(groups, runs)
    for name, make in (("csv", tables.as_csv), ("markdown", tables.as_markdown), ("latex", tables.as_latex)):
        path = getattr(files, name)
        if path is not None:
            write_asked_for(f"--{name}", path, make(groups))
    if files.json is not None:
        write_asked_for("--json", files.json, tables.as_json(groups, runs))
    figures = figures_of(groups) if files.out is not None or files.html is not None else []
    if files.out is not None:
        names = sorted({path.stem for path in save(figures, files.out)})
        shown += f"\n\nfigures in {files.out}: " + (", ".join(names) or "none; no run has a row yet")
    if files.html is not None:
        write_asked_for("--html", files.html, as_html(groups, runs, figures, time.time()))
    return shown


def report_study(path: Path, out: Path | None) -> str:
    """What a study of minibatches has found so far, and its figures.

    Args:
        path: of the CSV file of benchmarks/minibatch_study.py.
        out: folder of figures; None for none.

    Returns:
        What the terminal shows.

    Raises:
        UserError: the file cannot be read, or a figure not written.
    """
    study = read_study(path)
    shown = told(study)
    if out is not None:
        names = list(dict.fromkeys(path.stem for path in save(study_figures(study), out)))
        shown += f"\n\nfigures in {out}: " + (", ".join(names) or "none; no two points of one question have a row yet")
    return shown


def watch_run(paths: Sequence[Path], interval_s: float) -> None:
    """Shows a run until it is finished.

    Args:
        paths: of one run.
        interval_s: between two looks at it.

    Raises:
        UserError: it is none, or more than one.
    """
    folders = run_folders(paths)
    if len(folders) > 1:
        newest = max(folders, key=lambda folder: read_run(folder).written_s)
        raise UserError(f"--watch shows one run, not {len(folders)}; name one, as the last written: {newest}")
    watch(folders[0], interval_s)


def report_benchmarks(folder: Path, readme: Path | None) -> str:
    """README's tables, and where they go.

    Args:
        folder: benchmarks/results.
        readme: to rewrite; None to print the tables.

    Returns:
        What the terminal shows.

    Raises:
        UserError: there are no results, or README cannot be written or has no place for them.
    """
    text = benchmarks.as_markdown(folder)
    if readme is None:
        return text
    return f"{readme}: {'written' if benchmarks.write_readme(readme, text) else 'as it was'}"
