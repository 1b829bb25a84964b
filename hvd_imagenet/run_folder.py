"""The run folder: everything that is written of a run, by rank 0 alone.

`config.yaml` (the options, readable with `train -c`), `iterations.csv`, `metrics.csv`, `bad_images.csv` and
`nonfinite.csv` where there are any, `summary.json`, TensorBoard events and checkpoints. `report` needs nothing else.
"""

import csv
import functools
import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from hvd_imagenet.append_file import AppendFile, EventFile
from hvd_imagenet.checkpoint import disk
from hvd_imagenet.errors import UserError

ITERATION_COLUMNS = ("iteration", "epoch", "lr", "loss")
BAD_IMAGES = "bad_images.csv"
BAD_IMAGE_COLUMNS = ("iteration", "path", "reason")
NONFINITE = "nonfinite.csv"
NONFINITE_COLUMNS = ("iteration", "rank", "path")
EPOCH_COLUMNS = (
    "epoch",
    "iteration",
    "lr",
    "train_loss",
    "train_error",
    "val_loss",
    "val_error",
    "val_error_top5",
    "images_per_second",
    "data_wait_percent",
)
SUMMARY = "summary.json"
_FLUSH_SECONDS = 1.0


def new_run_folder(parent: Path, recipe_name: str) -> Path:
    """Makes a folder for a new run, named after the recipe and the time.

    Args:
        parent: holds the runs; made if missing.
        recipe_name: of the run.

    Returns:
        The new folder.

    Raises:
        UserError: it cannot be made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     first, second = new_run_folder(Path(parent), "digits"), new_run_folder(Path(parent), "digits")
        >>> first != second, first.name.startswith("digits-")
        (True, True)
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for attempt in range(100):
        folder = parent / (f"{recipe_name}-{stamp}" + (f"-{attempt}" if attempt else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"run folder {folder}: cannot be made ({error.strerror}); choose one with --out") from error
        return folder
    raise UserError(f"run folder {folder}: a hundred runs started this second; choose one with --out")


def _whole_rows(content: bytes, numbers: Sequence[str]) -> tuple[list[dict[str, str]], bool]:
    """The rows of a CSV file up to the first that is not whole, and whether they are all of it.

    A killed run may leave half a row behind the last whole one, a machine that has lost power anything, mostly zeros.
    """
    rows: list[dict[str, str]] = []
    whole = True
    try:
        content.decode()
    except UnicodeDecodeError as error:
        content = content[: error.start]
        whole = False
    end = content.rfind(b"\n") + 1
    reader = csv.DictReader(io.StringIO(content[:end].decode(), newline=""))
    try:
        whole = whole and 0 < end == len(content) and numbers[0] in (reader.fieldnames or ())
        for row in reader:
            if None in row or None in row.values():
                return rows, False  # more or fewer fields than columns
            int(row[numbers[0]])
            for name in numbers:
                float(row[name])
            rows.append(row)
    except (csv.Error, KeyError, ValueError):
        whole = False
    return rows, whole


class _Table:
    """A CSV file that is cut back to the rows before a number when it is opened, and flushed once a second.

    Args:
        path: of the file; made if missing.
        columns: of the file.
        numbers: those that hold a number in every row; the first is that of the iteration or epoch.
        kept: rows with this number and later ones are dropped.
    """

    def __init__(self, path: Path, columns: Sequence[str], numbers: Sequence[str], kept: int) -> None:
        found, whole = _whole_rows(path.read_bytes(), numbers) if path.exists() else ([], True)
        number = numbers[0]
        rows = [row for row in found if int(row[number]) < kept]
        temporary = path.with_name(f".{path.name}.partial")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        disk.flush(temporary)
        temporary.rename(path)  # a killed run, or a full disk, leaves the rows that were there
        self._file = AppendFile(path)
        self._line = io.StringIO(newline="")
        self._writer = csv.DictWriter(self._line, columns, extrasaction="ignore", lineterminator="\n")
        self._flushed_at_s = time.monotonic()
        self.rows = rows
        # A table without a row is that of a run which began in this folder with the checkpoint of another one.
        begin = int(found[-1][number]) + 1 if found else kept if whole else 0
        self.lacks = f"{path.name} lacks {_named(number, begin, kept)}" if begin < kept else None

    def write(self, row: Mapping[str, Any]) -> None:
        self._writer.writerow(row)
        self._file.write(self._line.getvalue().encode())
        self._line.seek(0)
        self._line.truncate()
        if time.monotonic() - self._flushed_at_s >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        self._file.flush()
        self._flushed_at_s = time.monotonic()

    def sync(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()


def _named(number: str, begin: int, end: int) -> str:
    return f"{number} {begin}" if end == begin + 1 else f"{number}s {begin} to {end - 1}"


def _told(method: Callable[..., None]) -> Callable[..., None]:
    """Turns what the operating system says of a file into a user's mistake."""

    @functools.wraps(method)
    def wrapper(folder: "RunFolder", *arguments: Any, **options: Any) -> None:
        try:
            method(folder, *arguments, **options)
        except OSError as error:
            raise UserError(
                f"run folder {folder.path}: cannot be written ({error.strerror}); make room or mend it, and start again"
            ) from error

    return wrapper


class RunFolder:
    """Writes the files of one run.

    Args:
        path: the run's folder, which exists.
        config: the options, plain data.
        iteration: of the checkpoint resumed from; rows of this iteration and later ones are dropped. The user is
            warned where earlier ones are missing or cannot be read.
        epochs_done: by then; rows of this epoch and later ones are dropped.
    """

    @_told
    def __init__(self, path: Path, config: Mapping[str, Any], iteration: int = 0, epochs_done: int = 0) -> None:
        self.path = path
        (path / SUMMARY).unlink(missing_ok=True)  # the run is not finished any more
        (path / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        self._iterations = _Table(path / "iterations.csv", ITERATION_COLUMNS, ITERATION_COLUMNS, iteration)
        self._epochs = _Table(path / "metrics.csv", EPOCH_COLUMNS, ("epoch", "val_error"), epochs_done)
        self._nonfinite = self._open_nonfinite(iteration) if (path / NONFINITE).exists() else None
        self.validation_errors = [float(row["val_error"]) for row in self._epochs.rows]
        self._events = EventFile(path, purge_step=iteration or None)
        lost = [table.lacks for table in (self._iterations, self._epochs) if table.lacks is not None]
        if lost:
            what = f"{' and '.join(lost)}, after a loss of power, perhaps; the run goes on without them"
            print(f"warning: run folder {path}: {what}", file=sys.stderr, flush=True)

    @_told
    def iteration(self, iteration: int, epoch: float, lr: float, loss: float) -> None:
        """Writes a row of iterations.csv.

        Args:
            iteration: counted from 0.
            epoch: fractional, before the iteration.
            lr: η of its step.
            loss: mean over the whole minibatch.
        """
        self._iterations.write({"iteration": iteration, "epoch": f"{epoch:.6f}", "lr": repr(lr), "loss": repr(loss)})
        if math.isfinite(loss):
            self._events.scalar("iteration/loss", loss, iteration)
        self._events.scalar("iteration/lr", lr, iteration)

    @_told
    def epoch(self, row: Mapping[str, Any]) -> None:
        """Writes a row of metrics.csv.

        Args:
            row: a value for each of EPOCH_COLUMNS; errors in percent; "" for what was not measured.
        """
        self._epochs.write(row)
        self.flush()
        self.validation_errors.append(float(row["val_error"]))
        for name in (name for name in EPOCH_COLUMNS[2:] if row[name] != ""):
            self._events.scalar(f"epoch/{name}", float(row[name]), int(row["iteration"]))

    @_told
    def bad_images(self, rows: Sequence[tuple[int, str, str]]) -> None:
        """Writes bad_images.csv anew; without rows there is none.

        Args:
            rows: iteration, path and reason of every image that could not be read.
        """
        temporary = self.path / f".{BAD_IMAGES}.partial"
        with temporary.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([BAD_IMAGE_COLUMNS, *rows])
        if rows:
            temporary.rename(self.path / BAD_IMAGES)
        else:
            temporary.unlink()
            (self.path / BAD_IMAGES).unlink(missing_ok=True)

    @_told
    def nonfinite(self, rows: Iterable[tuple[int, int, str]]) -> None:
        """Adds rows to nonfinite.csv, which is there only if there are any.

        Args:
            rows: iteration, rank and path of images whose loss or gradient is no finite number.
        """
        for row in rows:
            if self._nonfinite is None:
                self._nonfinite = self._open_nonfinite(row[0])
            self._nonfinite.write(dict(zip(NONFINITE_COLUMNS, row, strict=True)))
        if self._nonfinite is not None:
            self._nonfinite.flush()

    def _open_nonfinite(self, kept: int) -> _Table:
        return _Table(self.path / NONFINITE, NONFINITE_COLUMNS, ("iteration", "rank"), kept)

    @_told
    def flush(self) -> None:
        """Hands what was written to the operating system."""
        self._iterations.flush()
        self._epochs.flush()
        self._events.flush()

    def sync(self) -> None:
        """Waits until the rows that were flushed are on the disk; another thread than the writing one may call it.

        Raises:
            OSError: they cannot be written.
        """
        for table in (self._iterations, self._epochs, self._nonfinite):
            if table is not None:
                table.sync()
        disk.flush(self.path)

    @_told
    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        """Closes all files; with a summary, the run is finished.

        Args:
            summary: of summary.json.
        """
        self._iterations.close()
        self._epochs.close()
        if self._nonfinite is not None:
            self._nonfinite.close()
        self._events.close()
        if summary is not None:
            disk.replace_text(self.path / SUMMARY, json.dumps(dict(summary), indent=1) + "\n")
