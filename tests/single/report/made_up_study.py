"""A made-up CSV file of benchmarks/minibatch_study.py."""

import csv
import dataclasses
import json

from hvd_imagenet.recipes import cluttered_digits

SETTINGS = (
    "minibatch", "per_worker", "reference_lr", "reference_minibatch", "warmup", "epochs", "weight_decay",
    "decay_batch_norm", "zero_last_gamma", "opt", "trust_coefficient", "seed",
)  # fmt: skip
EPOCHS = 3


def rows_of(errors, *, framework="torch", processes=1, sha="abc", **changes):
    """A row for each seed: its error in the end, which falls to it in three epochs; None of one that diverges."""
    rows = []
    for seed, error in enumerate(errors):
        recipe = dataclasses.replace(cluttered_digits(), seed=seed, **changes)
        val = [90.0, 50.0] if error is None else [4 * error, 2 * error, error]
        rows.append({
            "recipe_hash": recipe.hash, "framework": framework, "processes": processes,
            "data": "cluttered-digits-9-16px-seed0",
            **{name: str(getattr(recipe, name)) for name in SETTINGS},
            "outcome": "diverged" if error is None else "finished",
            "val_error_median_last5": "" if error is None else error,
            "val_errors": " ".join(map(str, val)), "train_errors": " ".join(str(each + 1) for each in val),
            "data_sha256": sha,
        })  # fmt: skip
    return rows


def write_study(path, *points, wanted=None):
    """The CSV file of some rows_of, and the JSON file beside it where it is said how many seeds are wanted."""
    rows = [row for point in points for row in point]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if wanted is not None:
        run = "{recipe_hash}-{framework}-{processes}".format
        found = [{"runs": [run(**row) for row in point] + ["later"] * (wanted - len(point))} for point in points]
        path.with_suffix(".json").write_text(json.dumps({"points": found}))
    return path
