"""Tables for README from the files that the scripts of benchmarks/ have written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hvd_imagenet.errors import UserError
from hvd_imagenet.report.benchmark_forms import RATIO
from hvd_imagenet.report.benchmark_tables import Benchmark, Cell
from hvd_imagenet.report.known_benchmarks import KNOWN
from hvd_imagenet.report.study_tables import study_tables
from hvd_imagenet.report.tables import markdown_table

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
_PROVENANCE = ("command", "machine", "date", "commit")
_NOTHING = Benchmark(())


def as_markdown(folder: Path) -> str:
    """Tables and their provenance for each result file: known ones in README's order, then the others.

    Args:
        folder: benchmarks/results.

    Returns:
        Markdown, with nothing that is not in the files; its last line names the benchmarks that have none.

    Raises:
        UserError: there is no such folder, no result in it, or a file cannot be read.
    """
    if not folder.is_dir():
        raise UserError(
            f"--benchmarks {folder}: no such folder; name the one that make bench writes, benchmarks/results"
        )
    names = {path.stem for path in folder.glob("*.json")}
    order = [name for name in KNOWN if name in names] + sorted(names - set(KNOWN))
    sections = []
    for name in order:
        found = _read(folder / f"{name}.json")
        section = "\n\n".join(_section(name, found, folder))
        if section:
            sections.append(section)
    if not sections:
        raise UserError(f"--benchmarks {folder}: holds no result with figures; make bench writes them")
    missing = [f"`benchmarks/{name}.py`" for name in KNOWN if name not in names]
    if missing:
        sections.append(f"No result yet of {', '.join(missing)}.")
    return "\n\n".join(sections)


def rewritten(readme: str, tables: str) -> str:
    r"""A text whose part between the two markers is replaced.

    Args:
        readme: with BEGIN and END, each on a line of its own, once.
        tables: of as_markdown.

    Returns:
        The text, the markers included.

    Raises:
        ValueError: the markers are not there, or not once.

    Example:
        >>> print(rewritten(f"before\n{BEGIN}\nold\n{END}\nafter", "new"))
        before
        <!-- benchmarks -->
        <BLANKLINE>
        new
        <BLANKLINE>
        <!-- /benchmarks -->
        after
    """
    lines = readme.split("\n")
    if lines.count(BEGIN) != 1 or lines.count(END) != 1 or lines.index(BEGIN) > lines.index(END):
        raise ValueError(f"must have the lines {BEGIN} and {END}, once each and in this order")
    return "\n".join([*lines[: lines.index(BEGIN) + 1], "", tables, "", *lines[lines.index(END) :]])


def write_readme(path: Path, tables: str) -> bool:
    """Rewrites README's section.

    Args:
        path: of README.md.
        tables: of as_markdown.

    Returns:
        Whether the file was another before.

    Raises:
        UserError: it cannot be read or written, or has no place for the tables.
    """
    try:
        before = path.read_text()
        after = rewritten(before, tables)
        if after != before:
            path.write_text(after)
    except OSError as error:
        raise UserError(f"--readme {path}: cannot be written ({error.strerror}); name a README.md of yours") from error
    except ValueError as error:  # of UTF-8 too
        raise UserError(f"--readme {path}: {error}; put both where the tables belong") from error
    return after != before


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        line = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read ({line}); measure again, or remove it") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: must hold a JSON object with `ratios`; measure again, or remove it")
    return found


def _section(name: str, found: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Tables and provenance of one file; nothing where no figure is known."""
    points = found.get("points")
    if isinstance(points, list) and points and all(isinstance(each, dict) and "study" in each for each in points):
        tables = [*study_tables(points, folder)]
    else:
        tables = [*_known(name, found), *_unnamed(name, found)]
    if tables:
        yield from tables
        yield "\n".join(_provenances(name, found))


def _known(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Tables of figures that have words; a row without a figure is left out."""
    for table in KNOWN.get(name, _NOTHING).tables:
        written = [[words, *(_text(cell, found) for cell in cells)] for words, cells in table.rows]
        rows = [row for row in written if any(row[1:])]
        if rows:
            yield markdown_table(table.columns, rows)


def _text(cell: Cell | None, found: Mapping[str, Any]) -> str:
    """A cell's figures; nothing where one of them is missing."""
    if cell is None:
        return ""
    values = [_at(found, path) for path in cell.paths]
    there = all(_is_figure(value) or (cell.words and isinstance(value, str)) for value in values)
    return cell.form(*values) if there else ""


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, list) and bool(value) and all(map(_is_figure, value)))


def _unnamed(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    """A table of the ratios that have no words yet, by their keys."""
    known = KNOWN.get(name, _NOTHING)
    cells = [cell for table in known.tables for _, row in table.rows for cell in row if cell is not None]
    named = {path for cell in cells for path in cell.paths} | {("ratios", key) for key in known.left_out}
    ratios = found.get("ratios")
    rows = [
        [f"`{key}`", RATIO(value)]
        for key, value in (ratios if isinstance(ratios, dict) else {}).items()
        if ("ratios", key) not in named and isinstance(value, int | float)
    ]
    if rows:
        yield markdown_table([name.replace("_", " "), "ratio"], rows)


def _at(found: Any, path: Sequence[str]) -> Any:
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _provenances(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Who measured it where and when; a file of several parts has one each, equal ones are said once."""
    parts = found.get("provenance")
    told: dict[str, list[str]] = {}
    for part, values in (parts if isinstance(parts, dict) else {"": found}).items():
        said = {key: str(values.get(key, "unknown")) for key in _PROVENANCE}
        line = f"`{said['command']}` ({said['machine']}; {said['date']}; commit {said['commit']})"
        told.setdefault(line, []).append(part)
    for line, names in told.items():
        which = f", {' and '.join(part.replace('_', ' ') for part in names)}" if len(told) > 1 else ""
        yield f"[{name}.json](benchmarks/results/{name}.json){which}: {line}."
