"""The rows of minibatch_study.py, one a finished run, and what they come to: mean and deviation of every point."""

import csv
import json
import statistics
import threading
from pathlib import Path

from provenance import provenance
from study_points import Point, Run, base

SETTINGS = (
    "minibatch", "per_worker", "reference_lr", "reference_minibatch", "warmup", "epochs", "weight_decay",
    "decay_batch_norm", "zero_last_gamma", "opt", "trust_coefficient", "seed",
)  # fmt: skip
KEY = ("recipe_hash", "framework", "processes", "data")
COLUMNS = (
    *KEY, *SETTINGS, "outcome", "val_error_median_last5", "val_error_final", "iterations", "val_errors", "train_errors",
    "seconds", "data_sha256", "machine", "date", "commit",
)  # fmt: skip
# What the ETA takes for a run until rows say more: one process of one thread, AMD EPYC.
SECONDS_OF_A_RUN = 180.0
HOW = "1 thread a process"
_WITHIN_A_STUDY = ("epochs", "seed")  # all points of a study have one length; --quick's is another
Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """Of a CSV file, none of one that is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Results:
    """The rows of finished runs on one set of data; threads may add some."""

    def __init__(self, path: Path, data: str) -> None:
        self._path, self._lock, self.data = path, threading.Lock(), data
        self.rows = {tuple(row[name] for name in KEY): row for row in read_rows(path) if row["data"] == data}

    def of(self, run: Run) -> Row | None:
        return self.rows.get((*run.key, self.data))

    def add(self, run: Run, found: Row) -> None:
        fields = {name: str(getattr(run.recipe, name)) for name in SETTINGS}
        row = {**dict(zip(KEY, (*run.key, self.data), strict=True)), **fields, **found}
        with self._lock:
            self.rows[(*run.key, self.data)] = row
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)

    def seconds(self, run: Run) -> float:
        """What a run like this one took, or may take."""
        kind = run.framework, str(run.processes)
        rows = [row for row in self.rows.values() if (row["framework"], row["processes"]) == kind]
        alike = [float(row["seconds"]) for row in rows if row["seconds"]]
        return statistics.median(alike) if alike else SECONDS_OF_A_RUN

    def mixture(self, at_hand: str | None = None) -> str | None:
        """What is wrong where not all rows are of the same images, those at hand included; None where they are."""
        of_rows = sorted({row["data_sha256"] for row in self.rows.values()})
        if not of_rows or {*of_rows, at_hand or of_rows[0]} == {of_rows[0]}:
            return None
        here = f", here they are {at_hand}" if at_hand else ""
        return (
            f"{self._path}: its rows must be of the same images, {self.data}, but have data_sha256 "
            f"{' and '.join(of_rows)}{here}; name another file with --csv, or make the images with the versions of "
            "libjpeg and numpy that those rows had"
        )


def summary(studies: dict[str, list[Point]], results: Results) -> list[dict[str, object]]:
    """Mean and deviation of every point over the seeds that are done and did not diverge."""
    found: list[dict[str, object]] = []
    for study, points in studies.items():
        for point in points:
            rows = [row for row in map(results.of, point.runs) if row is not None]
            errors = [float(row["val_error_median_last5"]) for row in rows if row["val_error_median_last5"]]
            found.append({
                "study": study, "label": point.label, "minibatch": point.recipe.minibatch, "seeds": len(rows),
                "wanted": point.seeds, "diverged": sum(row["outcome"] == "diverged" for row in rows),
                "mean": round(statistics.mean(errors), 6) if errors else None,
                "deviation": round(statistics.stdev(errors), 6) if len(errors) > 1 else None, "paper": point.paper,
                "runs": ["-".join(run.key) for run in point.runs],
            })  # fmt: skip
    return found


def table(found: list[dict[str, object]]) -> str:
    lines = [f"{'':<12} {'':<32} {'error %':>15} {'seeds':>6}  {'paper':>13}"]
    for point in found:
        error = "" if point["mean"] is None else f"{point['mean']:.2f}"
        error += "" if point["deviation"] is None else f" ± {point['deviation']:.2f}"
        error += f" {point['diverged']} diverged" if point["diverged"] else ""
        lines.append(
            f"{point['study']:<12} {point['label']:<32} {error:>15} {point['seeds']:>2} / {point['wanted']}  "
            f"{point['paper']:>13}"
        )
    return "\n".join(lines)


def is_reference(point: Point) -> bool:
    """Whether a point is the one that large minibatches must match: the reference minibatch, nothing else changed."""
    recipe, usual = point.recipe, base()
    names = [name for name in SETTINGS if name not in (*_WITHIN_A_STUDY, "minibatch")]
    return (
        (point.framework, point.processes) == ("torch", 1)
        and recipe.minibatch == usual.reference_minibatch
        and all(getattr(recipe, name) == getattr(usual, name) for name in names)
    )


def write_json(path: Path, studies: dict[str, list[Point]], results: Results) -> None:
    """With the reference's error over each point's: 1 where a large minibatch costs nothing.

    A point of which a seed diverged has no ratio: the mean of the others would hide it.
    """
    found = summary(studies, results)
    means = [None if point["diverged"] else point["mean"] for point in found]
    points = [point for each in studies.values() for point in each]
    reference = next((mean for point, mean in zip(points, means, strict=True) if is_reference(point) and mean), None)
    ratios = {
        f"{point['study']}: {point['label']}": round(reference / mean, 3)  # type: ignore[operator]
        for point, mean in zip(found, means, strict=True)
        if reference and mean
    }
    path.write_text(json.dumps({**measured(studies, results), "ratios": ratios, "points": found}, indent=1) + "\n")


def measured(studies: dict[str, list[Point]], results: Results) -> dict[str, str]:
    """By which command, and where, when and by which commit the rows were measured, which may be long ago."""
    here = provenance(HOW)
    runs = [run for points in studies.values() for point in points for run in point.runs]
    rows = [row for row in map(results.of, runs) if row is not None]
    if not rows:
        return here
    dates = sorted({row["date"] for row in rows})
    return {
        "command": here["command"],
        "machine": "; ".join(sorted({row["machine"] for row in rows})),
        "date": " to ".join(dict.fromkeys((dates[0], dates[-1]))),
        "commit": ", ".join(dict.fromkeys(row["commit"] for row in rows)),
    }
