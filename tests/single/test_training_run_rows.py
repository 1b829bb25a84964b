"""Which rows a run writes, after which iterations, and what they hold."""

import csv
import json
import math

import pytest
from training_runs import VALIDATION, iterate, recipe_of, run_of, walk

from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.run_folder import RunFolder
from hvd_imagenet.training_run import TrainingRun


# (iteration, epoch) of the rows, by hand: epoch e ends with the iteration that takes image (e + 1)·N − 1.
@pytest.mark.parametrize(
    ("images", "minibatch", "epochs", "max_iterations", "expected"),
    [
        (12, 4, 3, None, [(2, 0), (5, 1), (8, 2)]),  # kn divides N
        (10, 4, 3, None, [(2, 0), (4, 1), (7, 2)]),  # it does not
        (10, 3, 2, None, [(3, 0), (6, 1)]),
        (10, 4, 2.5, None, [(2, 0), (4, 1), (6, 2)]),  # half an epoch more, 25 of 28 images
        (10, 5, 2.5, None, [(1, 0), (3, 1), (4, 2)]),
        (10, 10, 3, None, [(0, 0), (1, 1), (2, 2)]),  # one iteration an epoch
        (10, 25, 5, None, [(0, 0), (0, 1), (1, 2), (1, 3), (1, 4)]),  # kn > N
        (10, 25, 4, None, [(0, 0), (0, 1), (1, 2), (1, 3)]),  # the last iteration ends epoch 4 as well, which is none
        (10, 100, 3, None, [(0, 0), (0, 1), (0, 2)]),
        (10, 30, 3.5, None, [(0, 0), (0, 1), (0, 2), (1, 3)]),
        (1, 1, 3, None, [(0, 0), (1, 1), (2, 2)]),
        (10, 4, 0.3, None, [(0, 0)]),
        (10, 4, 3, 1, [(0, 0)]),  # stopped within an epoch: a preliminary row
        (10, 4, 3, 4, [(2, 0), (3, 1)]),
        (10, 4, 3, 5, [(2, 0), (4, 1)]),  # stopped with an epoch's end
        (12, 4, 3, 6, [(2, 0), (5, 1)]),
        (12, 4, 3, 100, [(2, 0), (5, 1), (8, 2)]),
    ],
)
def test_rows_due(images, minibatch, epochs, max_iterations, expected):
    assert walk(run_of(images, minibatch, epochs, max_iterations=max_iterations)) == expected


def test_exactly_one_row_an_epoch_whatever_the_numbers():
    for images in (1, 7, 10, 16):
        for minibatch in (1, 3, 7, 8, 16, 33):
            for epochs in (0.5, 1, 1.25, 2, 3.5, 4):
                run = run_of(images, minibatch, epochs)
                rows = walk(run)
                whole = [(math.ceil((epoch + 1) * images / minibatch) - 1, epoch) for epoch in range(int(epochs))]
                assert rows[: len(whole)] == whole
                # Whatever the numbers, the run ends with a validation: of an unfinished epoch if need be.
                assert rows[-1][0] == run.stop_at - 1
                assert rows[len(whole) :] in ([], [(run.stop_at - 1, int(epochs))])


@pytest.mark.parametrize(
    ("images", "minibatch", "epochs_done", "iterations_done", "expected"),
    [
        (10, 4, 0, 1, []),
        (10, 4, 0, 3, [0]),
        (10, 4, 1, 4, []),
        (10, 4, 1, 5, [1]),
        (10, 25, 0, 1, [0, 1]),
        (10, 25, 2, 2, [2, 3, 4]),
        (8, 4, 0, 2, [0]),
        # Two epochs within one execution of several steps.
        (8, 4, 0, 5, [0, 1]),
    ],
)
def test_the_epochs_whose_last_image_was_taken_get_a_row(images, minibatch, epochs_done, iterations_done, expected):
    run = TrainingRun(recipe_of(minibatch, 5), images, None, 100, print)
    run.epochs_done, run.iteration = epochs_done, iterations_done
    assert run.rows_due() == expected


@pytest.mark.parametrize(("images", "minibatch", "epochs"), [(10, 4, 3), (12, 4, 3), (10, 4, 2.5), (10, 25, 4)])
def test_a_run_that_was_stopped_anywhere_reports_what_an_uninterrupted_one_does(tmp_path, images, minibatch, epochs):
    def rows(folder):
        with (folder / "metrics.csv").open() as file:
            measured = ("images_per_second", "data_wait_percent")
            return [{k: v for k, v in row.items() if k not in measured} for row in csv.DictReader(file)]

    total = run_of(images, minibatch, epochs).stop_at
    whole = tmp_path / "whole"
    whole.mkdir()
    run = run_of(images, minibatch, epochs, RunFolder(whole, {}))
    walk(run)
    run.folder.close()
    for stop in range(1, total):
        folder = tmp_path / f"stopped-{stop}"
        folder.mkdir()
        first = run_of(images, minibatch, epochs, RunFolder(folder, {}), max_iterations=stop)
        walk(first)
        manifest = json.loads(json.dumps(first.manifest(0.1, "", "torch", {})))
        first.folder.close()
        second = run_of(images, minibatch, epochs)
        second.resume(Checkpoint(stop, {}, manifest))
        second.folder = RunFolder(folder, {}, second.iteration, second.epochs_done)
        walk(second)
        assert second.summary(1, "torch")["resumed_from_iteration"] == stop
        second.folder.close()
        assert rows(folder) == rows(whole)
        assert (folder / "iterations.csv").read_text() == (whole / "iterations.csv").read_text()


def test_the_numbers_of_a_row(tmp_path):
    lines = []
    run = run_of(10, 5, 1, RunFolder(tmp_path, {}))
    run.log = lines.append
    iterate(run, loss=1.0)
    iterate(run, loss=3.0)
    run.end_epochs(run.rows_due(), lr=0.05, speed=1234.56, validation=VALIDATION)
    run.folder.close()
    with (tmp_path / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "epoch": "0",
        "iteration": "1",
        "lr": "0.05",
        "train_loss": "2.000000",
        "train_error": "50.0000",
        "val_loss": "2.000000",
        "val_error": "20.0000",
        "val_error_top5": "10.0000",
        "images_per_second": "1234.6",
        "data_wait_percent": "",
    }
    assert lines == ["epoch  1/1  lr 0.05    loss 2.0000  error 50.00 % val 20.00 %  1,235 img/s"]
    with (tmp_path / "iterations.csv").open() as file:
        assert [(row["iteration"], row["epoch"], row["loss"]) for row in csv.DictReader(file)] == [
            ("0", "0.000000", "1.0"),
            ("1", "0.500000", "3.0"),
        ]


def test_sums_begin_anew_after_a_row():
    run = run_of(8, 4, 2)
    walk(run, until=1)
    assert run.epoch_sums.images == 4
    walk(run, until=2)
    assert run.epoch_sums == Sums()
    assert run.epochs_done == 1


def test_other_ranks_write_nothing_and_agree():
    run = run_of(10, 4, 3)
    assert walk(run) == [(2, 0), (4, 1), (7, 2)]
    assert run.summary(3, "torch")["val_error_final"] is None


def test_an_iteration_that_was_passed_over_is_in_no_mean(tmp_path):
    run = run_of(12, 4, 1, RunFolder(tmp_path, {}))
    iterate(run, loss=2.0)
    run.nonfinite.skipped.append(1)
    iterate(run, loss=math.inf)
    iterate(run, loss=4.0)
    assert run.epoch_sums.mean_loss == 3.0
    run.end_epochs(run.rows_due(), 0.1, 1.0, VALIDATION)
    run.folder.close()
    with (tmp_path / "iterations.csv").open() as file:
        assert [row["loss"] for row in csv.DictReader(file)] == ["2.0", "nan", "4.0"]
    assert run.summary(1, "torch")["nonfinite_skipped"] == 1
    other = run_of(12, 4, 1)
    other.resume(Checkpoint(3, {}, json.loads(json.dumps(run.manifest(0.1, "", "torch", {})))))
    assert other.nonfinite.skipped == [1]


def test_an_epoch_without_any_update_has_a_row(tmp_path):
    run = run_of(4, 4, 1, RunFolder(tmp_path, {}))
    run.nonfinite.skipped.append(0)
    iterate(run, loss=math.nan)
    run.end_epochs(run.rows_due(), 0.1, 1.0, VALIDATION)
    run.folder.close()
    with (tmp_path / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["train_loss"], row["train_error"], row["val_error"]) == ("nan", "nan", "20.0000")
