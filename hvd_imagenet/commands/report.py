"""`hvd-imagenet report`: tables, figures and a page from run folders."""

import argparse
import importlib.util
import io
import math
import sys
from pathlib import Path

from hvd_imagenet.errors import UserError

_PACKAGES = ("pandas", "matplotlib", "jinja2")
_SECONDS = "5"
EXAMPLES = """\
examples:
  hvd-imagenet report runs                                  all runs in a folder
  hvd-imagenet report runs/a runs/b --html report.html      one page with all
  hvd-imagenet report runs --out figures --latex table.tex  for a paper
  hvd-imagenet report runs --by framework,processes         separate these too
  hvd-imagenet report runs/a --watch                        see it as it goes
  hvd-imagenet report --benchmarks benchmarks/results --readme README.md
  hvd-imagenet report --study benchmarks/results/minibatch_study.csv --out DIR

Runs that differ in their seed alone are one row: mean ± standard deviation of
the median validation error of the last 5 epochs, over finished runs.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `report`."""
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders, or folders of run folders")
    add = parser.add_argument
    add("--by", default="", metavar="NAMES", help="options that make a row of their own too, as framework,processes")
    for name, what in (("csv", "CSV"), ("markdown", "Markdown"), ("latex", "LaTeX")):
        add(f"--{name}", type=Path, metavar="FILE", help=f"write the table as {what}")
    add("--json", type=Path, metavar="FILE", help="write groups and runs as JSON")
    add("--out", type=Path, metavar="DIR", help="write the figures, as PNG and SVG")
    add("--html", type=Path, metavar="FILE", help="write a page with all of it, which needs no other file")
    again = f"show one run, again every SECONDS (default: {_SECONDS}), until it is finished"
    add("--watch", nargs="?", const=_SECONDS, metavar="SECONDS", help=again)
    add("--benchmarks", type=Path, metavar="DIR", help="print the results of benchmarks as tables in Markdown")
    add("--study", type=Path, metavar="FILE", help="print what minibatch_study.py found; --out for its figures")
    add("--readme", type=Path, metavar="FILE", help="write these tables between the two markers in FILE")


def run(arguments: argparse.Namespace) -> int:
    """Prints the report, and writes the files that are asked for.

    Args:
        arguments: the parsed options.

    Returns:
        The exit code, 0.

    Raises:
        UserError: a path or an option breaks its rule, or a package is missing.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} missing; install: {sys.executable} -m pip install {' '.join(missing)}")
    from hvd_imagenet.report.report import Files, report_benchmarks, report_runs, report_study, watch_run

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ± shows a question mark
    seconds = _seconds(arguments)
    _refuse_together(arguments)
    if arguments.benchmarks is not None:
        print(report_benchmarks(arguments.benchmarks, arguments.readme))
    elif arguments.study is not None:
        print(report_study(arguments.study, arguments.out))
    elif not arguments.runs:
        raise UserError("RUN is missing: name a run folder, or the folder that holds them, as: report runs")
    elif seconds is not None:
        watch_run(arguments.runs, seconds)
    else:
        by = [name.strip() for name in arguments.by.split(",") if name.strip()]
        files = Files(**{name: getattr(arguments, name) for name in Files.__dataclass_fields__})
        print(report_runs(arguments.runs, by, files))
    return 0


def _refuse_together(arguments: argparse.Namespace) -> None:
    """What is asked for together and cannot be had so."""
    if arguments.readme is not None and arguments.benchmarks is None:
        raise UserError("--readme shows the results of --benchmarks DIR; name it too, as benchmarks/results")
    own = [name for name in ("benchmarks", "study") if getattr(arguments, name) is not None]
    if own and (arguments.runs or len(own) > 1):
        other = "RUN" if arguments.runs else f"--{own[1]}"
        raise UserError(f"--{own[0]} is a report of its own: leave {other} out, or leave it out")
    of_runs = [name for name in ("by", "csv", "markdown", "latex", "json", "html", "watch") if getattr(arguments, name)]
    if own == ["study"] and of_runs:
        raise UserError(f"--{of_runs[0]} is of run folders: leave it out with --study, or name RUN in its place")


def _seconds(arguments: argparse.Namespace) -> float | None:
    """What --watch says; a run's folder behind it, as in `--watch runs/a`, is taken for the run."""
    if arguments.watch is None:
        return None
    try:
        seconds = float(arguments.watch)
    except ValueError:
        arguments.runs.append(Path(arguments.watch))
        return float(_SECONDS)
    if not 0 < seconds < math.inf:
        raise UserError(f"--watch {arguments.watch}: must be a number of seconds above 0, as --watch {_SECONDS}")
    return seconds
