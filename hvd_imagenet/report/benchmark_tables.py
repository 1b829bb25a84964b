"""What a table of README is made of: where its figures are in a result file, and how they are written."""

from typing import NamedTuple

from hvd_imagenet.report.benchmark_forms import RATIO, Form


class Cell(NamedTuple):
    """One cell of a table: where its values are in the result file, and how they are written.

    Args:
        form: takes the values.
        paths: keys of the result file, one path a value.
        words: whether values may be text.
    """

    form: Form
    paths: tuple[tuple[str, ...], ...]
    words: bool = False


class Table(NamedTuple):
    """Names of columns, the first of which says what is compared; and rows, each of words and cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]


class Benchmark(NamedTuple):
    """One result file: its tables, and ratios that would say the same again."""

    tables: tuple[Table, ...]
    left_out: tuple[str, ...] = ()


def cell(form: Form, *paths: str) -> Cell:
    """A cell of figures.

    Args:
        form: takes the values.
        paths: of the values, written with slashes.

    Example:
        >>> cell("{:.1f}".format, "seconds/mpirun").paths
        (('seconds', 'mpirun'),)
    """
    return Cell(form, tuple(tuple(path.split("/")) for path in paths))


def worded(form: Form, *paths: str) -> Cell:
    """A cell some of whose values may be text, such as the name of what limits a cluster.

    Args:
        form: takes the values.
        paths: of the values, written with slashes.
    """
    return cell(form, *paths)._replace(words=True)


def ratios(*names: str | None) -> tuple[Cell | None, ...]:
    """Cells of a row.

    Args:
        names: keys of the result file's `ratios`; None for an empty cell.
    """
    return tuple(None if name is None else cell(RATIO, f"ratios/{name}") for name in names)
