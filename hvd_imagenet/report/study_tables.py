"""README's tables of the study of minibatches, with the figures that lie beside its results."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hvd_imagenet.report.study import error_words
from hvd_imagenet.report.study_words import CAPTIONS, READING, STUDIES, Words
from hvd_imagenet.report.tables import markdown_table

_FIGURES = "figures"
_OTHER = "the paper's"


def study_tables(points: Sequence[Mapping[str, Any]], folder: Path) -> Iterator[str]:
    """How to read it, and a table for each study, with its figures; points without a finished run are left out.

    Args:
        points: of minibatch_study.json.
        folder: benchmarks/results, where the figures are, as SVG; those that are not there are left out.

    Yields:
        Markdown.
    """
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        if point.get("seeds"):
            rows.setdefault(str(point["study"]), []).append(point)
    if rows:
        yield READING
    for study, each in rows.items():
        words = STUDIES.get(study, Words(f"Large minibatches: {study}", _OTHER))
        yield _table(words, each)
        for name in words.figures:
            if (folder / _FIGURES / f"{name}.svg").exists():
                yield f"![{CAPTIONS[name]}](benchmarks/results/{_FIGURES}/{name}.svg)"


def _table(words: Words, points: Sequence[Mapping[str, Any]]) -> str:
    columns = [words.title, "seeds", "error %", *([words.paper] if words.paper else [])]
    rows = [[str(point["label"]), _seeds(point), _error(point), str(point.get("paper") or "")] for point in points]
    return markdown_table(columns, [row[: len(columns)] for row in rows])


def _seeds(point: Mapping[str, Any]) -> str:
    done, wanted = point["seeds"], point.get("wanted") or 0
    return f"{done} of {wanted}" if done < wanted else str(done)


def _error(point: Mapping[str, Any]) -> str:
    mean, deviation = (math.nan if point.get(key) is None else float(point[key]) for key in ("mean", "deviation"))
    diverged = point.get("diverged") or 0
    return error_words(mean, deviation, point["seeds"] - diverged, diverged)
