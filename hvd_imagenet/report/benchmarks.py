"""Tables for README from the files that the scripts of benchmarks/ have written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hvd_imagenet.errors import UserError
from hvd_imagenet.report.known_benchmarks import KNOWN, RATIO, Benchmark
from hvd_imagenet.report.tables import NONE, markdown_table

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
_PROVENANCE = ("command", "machine", "date", "commit")
_STUDY = ("study", "setting", "seeds", "error %", "the paper's")
_NOTHING = Benchmark("", ())


def as_markdown(folder: Path) -> str:
    """A heading, a table and its provenance for each result file: known ones in README's order, then the others.

    Args:
        folder: benchmarks/results.

    Returns:
        Markdown, with nothing that is not in the files.

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
        section = "\n\n".join(_section(name, found))
        if section:
            sections.append(section)
    if not sections:
        raise UserError(f"--benchmarks {folder}: holds no result with figures; make bench writes them")
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


def _section(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Heading, table and provenance of one file; nothing where no figure is known."""
    known = KNOWN.get(name, _NOTHING)
    points = found.get("points")
    study = isinstance(points, list) and all(isinstance(each, dict) and "study" in each for each in points)
    header, rows = (_STUDY, _study(points)) if study and points else (["", "figure"], list(_rows(known, found)))
    if not rows:
        return
    yield f"### {known.question or name.replace('_', ' ')}"
    yield markdown_table(header, rows)
    yield from _provenances(name, found)


def _rows(known: Benchmark, found: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """Known figures with their words, then the ratios that have none."""
    for figure in known.figures:
        value = _at(found, figure.path)
        if isinstance(value, int | float):
            yield [figure.words, figure.form(value)]
    named = {figure.path for figure in known.figures} | {("ratios", name) for name in known.left_out}
    ratios = found.get("ratios")
    for key, value in (ratios if isinstance(ratios, dict) else {}).items():
        if ("ratios", key) not in named and isinstance(value, int | float):
            yield [f"`{key}`", RATIO(value)]


def _study(points: Sequence[Mapping[str, Any]]) -> list[Sequence[str]]:
    """The points of a study of errors; those without a finished run are left out."""
    rows: list[Sequence[str]] = []
    for point in points:
        mean, deviation, diverged = (point.get(key) for key in ("mean", "deviation", "diverged"))
        error = NONE if mean is None else f"{mean:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")
        error += f", {diverged} diverged" if diverged else ""
        if point.get("seeds"):
            rows.append(
                [str(point[key]) for key in ("study", "label", "seeds")] + [error, str(point.get("paper") or "")]
            )
    return rows


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
        line = f"`{said['command']}` on {said['machine']}, {said['date']}, commit {said['commit']}"
        told.setdefault(line, []).append(part)
    for line, names in told.items():
        which = f" ({', '.join(names)})" if len(told) > 1 else ""
        yield f"[{name}.json](benchmarks/results/{name}.json){which}: {line}."
