"""Iterations without an update: what is said, counted and listed."""

import csv
import os

import numpy as np
import pytest

from hvd_imagenet.errors import AgreedError
from hvd_imagenet.nonfinite import Nonfinite, all_finite, refuse_nonfinite
from hvd_imagenet.run_folder import RunFolder

HOST = os.uname().nodename


class _Ranks:
    """Rank 0, whose own images are given to `meet`; the others have these."""

    rank = 0

    def __init__(self, *others):
        self.others, self.size = others, 1 + len(others)

    def gather(self, value):
        if isinstance(value, tuple):
            return [value, *((f"node{rank}", images) for rank, images in enumerate(self.others, start=1))]
        return [value, *([None] * len(self.others))]


def _table(path):
    with (path / "nonfinite.csv").open() as file:
        return [(row["iteration"], row["rank"], row["path"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("own", "others", "what"),
    [
        (["a"], [], f"loss or gradient on rank 0 ({HOST}) is no finite number, of a"),
        ([], [[], ["b", "c"]], "loss or gradient on rank 2 (node2) is no finite number, of b, c"),
        ([], [["b", "c", "d", "e"]], "loss or gradient on rank 1 (node1) is no finite number, of b, c and 2 more"),
        (["a", "b"], [["c"]], "loss or gradient on ranks 0, 1 is no finite number, of a, b and 1 more"),
        (
            [],
            [[]],
            "the sum of the gradients is no finite number, though each process's own is; with --compression fp16 it "
            "must stay below 65504",
        ),
    ],
)
def test_what_is_said(own, others, what):
    with pytest.raises(AgreedError) as error:
        Nonfinite().meet(57, own, _Ranks(*others))
    mend = "mend these images, " if own or any(others) else ""
    assert str(error.value) == (
        f"iteration 57: {what}; lower --reference-lr, {mend}or pass over more such iterations with --skip-nonfinite N"
    )
    assert error.value.spokesman == 0


def test_as_many_as_allowed_are_passed_over(tmp_path):
    nonfinite, folder = Nonfinite(allowed=2), RunFolder(tmp_path, {})
    listed = f"listed in {tmp_path}/nonfinite.csv"
    said = nonfinite.meet(3, [], _Ranks(["x", "y"]), folder)
    assert said == (
        f"iteration 3: loss or gradient on rank 1 (node1) is no finite number, of x, y, {listed}; "
        "no update is made (1 of --skip-nonfinite 2)"
    )
    assert nonfinite.meet(5, ["z"], _Ranks([]), folder).endswith("no update is made (2 of --skip-nonfinite 2)")
    assert nonfinite.skipped == [3, 5]
    with pytest.raises(AgreedError, match=r"^--skip-nonfinite 2: one more: iteration 6: "):
        nonfinite.meet(6, ["z"], _Ranks([]), folder)
    assert nonfinite.skipped == [3, 5]
    folder.close()
    rows = [("3", "1", "x"), ("3", "1", "y"), ("5", "0", "z"), ("6", "0", "z")]
    assert _table(tmp_path) == rows
    RunFolder(tmp_path, {}, iteration=5).close()  # a run that goes on meets the later ones again
    assert _table(tmp_path) == rows[:2]


def test_there_is_no_table_without_rows(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.nonfinite([])
    folder.close()
    assert not (tmp_path / "nonfinite.csv").exists()


@pytest.mark.parametrize(
    ("values", "finite"),
    [([], True), ([1.0, -1.0], True), ([1e30, 1e30], True), ([1.0, np.nan], False), ([-np.inf, 1.0], False)],
)
def test_all_finite(values, finite):
    array = np.array(values, dtype=np.float32)
    assert all_finite([np.ones(3), array]) == finite
    assert all_finite([np.ones(3), array.reshape(-1, 1)]) == finite


def test_weights_that_are_no_numbers_are_not_saved():
    with pytest.raises(AgreedError) as error:
        refuse_nonfinite(False, iteration=12)
    assert str(error.value) == (
        "after 12 iterations weights, momentum or running averages are no finite numbers: no checkpoint is written, "
        "the last one stays; lower --reference-lr, or lengthen --warmup-epochs"
    )
