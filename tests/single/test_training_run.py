import csv
import json
import math
import signal

import pytest

from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.checkpoint_timer import CheckpointTimer
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.errors import Preempted
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_folder import RunFolder
from hvd_imagenet.training_run import TrainingRun

VALIDATION = Sums(images=10, loss=20.0, correct=8, correct_top5=9)


def _recipe(minibatch, epochs):
    return Recipe(minibatch=minibatch, per_worker=1, epochs=epochs, warmup="none")


def _iterate(run, loss=1.0):
    size = run.recipe.minibatch
    run.record(run.iteration, 0.1, Sums(size, size * loss, size / 2, size))
    run.iteration += 1


def _walk(run, until=None):
    """Goes on to the end, or to an iteration; returns (iteration, epoch) of every row."""
    rows = []
    while run.iteration < (until or run.stop_at):
        _iterate(run)
        due = run.rows_due()
        if due:
            run.end_epochs(due, lr=0.1, speed=100.0, validation=VALIDATION)
        rows += [(run.iteration - 1, epoch) for epoch in due]
    return rows


def _run(images, minibatch, epochs, folder=None, max_iterations=None):
    recipe = _recipe(minibatch, epochs)
    total = recipe.workers.iterations(images, epochs)
    return TrainingRun(recipe, images, folder, min(total, max_iterations or total), log=lambda line: None)


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
    assert _walk(_run(images, minibatch, epochs, max_iterations=max_iterations)) == expected


def test_exactly_one_row_an_epoch_whatever_the_numbers():
    for images in (1, 7, 10, 16):
        for minibatch in (1, 3, 7, 8, 16, 33):
            for epochs in (0.5, 1, 1.25, 2, 3.5, 4):
                run = _run(images, minibatch, epochs)
                rows = _walk(run)
                whole = [(math.ceil((epoch + 1) * images / minibatch) - 1, epoch) for epoch in range(int(epochs))]
                assert rows[: len(whole)] == whole
                # Whatever the numbers, the run ends with a validation: of an unfinished epoch if need be.
                assert rows[-1][0] == run.stop_at - 1
                assert rows[len(whole) :] in ([], [(run.stop_at - 1, int(epochs))])


@pytest.mark.parametrize(("images", "minibatch", "epochs"), [(10, 4, 3), (12, 4, 3), (10, 4, 2.5), (10, 25, 4)])
def test_a_run_that_was_stopped_anywhere_reports_what_an_uninterrupted_one_does(tmp_path, images, minibatch, epochs):
    def rows(folder):
        with (folder / "metrics.csv").open() as file:
            measured = ("images_per_second", "data_wait_percent")
            return [{k: v for k, v in row.items() if k not in measured} for row in csv.DictReader(file)]

    total = _run(images, minibatch, epochs).stop_at
    whole = tmp_path / "whole"
    whole.mkdir()
    run = _run(images, minibatch, epochs, RunFolder(whole, {}))
    _walk(run)
    run.folder.close()
    for stop in range(1, total):
        folder = tmp_path / f"stopped-{stop}"
        folder.mkdir()
        first = _run(images, minibatch, epochs, RunFolder(folder, {}), max_iterations=stop)
        _walk(first)
        manifest = json.loads(json.dumps(first.manifest(0.1, "", "torch", {})))
        first.folder.close()
        second = _run(images, minibatch, epochs)
        second.resume(Checkpoint(stop, {}, manifest))
        second.folder = RunFolder(folder, {}, second.iteration, second.epochs_done)
        _walk(second)
        assert second.summary(1, "torch")["resumed_from_iteration"] == stop
        second.folder.close()
        assert rows(folder) == rows(whole)
        assert (folder / "iterations.csv").read_text() == (whole / "iterations.csv").read_text()


def test_the_numbers_of_a_row(tmp_path):
    lines = []
    run = _run(10, 5, 1, RunFolder(tmp_path, {}))
    run.log = lines.append
    _iterate(run, loss=1.0)
    _iterate(run, loss=3.0)
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
    assert lines == ["epoch  1/1  lr 0.05    loss 2.000  error 50.00 % val 20.00 %  1,235 img/s"]
    with (tmp_path / "iterations.csv").open() as file:
        assert [(row["iteration"], row["epoch"], row["loss"]) for row in csv.DictReader(file)] == [
            ("0", "0.000000", "1.0"),
            ("1", "0.500000", "3.0"),
        ]


def test_sums_begin_anew_after_a_row():
    run = _run(8, 4, 2)
    _walk(run, until=1)
    assert run.epoch_sums.images == 4
    _walk(run, until=2)
    assert run.epoch_sums == Sums()
    assert run.epochs_done == 1


def test_other_ranks_write_nothing_and_agree():
    run = _run(10, 4, 3)
    assert _walk(run) == [(2, 0), (4, 1), (7, 2)]
    assert run.summary(3, "torch")["val_error_final"] is None


def test_summary(tmp_path):
    run = _run(12, 4, 3, RunFolder(tmp_path, {}))
    for epoch, error in enumerate([5, 3, 4]):
        _walk_one_epoch(run, epoch, Sums(100, 100.0, 100 - error, 100))
    assert run.summary(processes=2, framework="torch") == {
        "val_error_median_last5": pytest.approx(4.0),
        "val_error_final": pytest.approx(4.0),
        "iterations": 9,
        "images": 12,
        "minibatch": 4,
        "per_worker": 1,
        "workers": 4,
        "processes": 2,
        "framework": "torch",
        "recipe_hash": run.recipe.hash,
        "resumed_from_iteration": 0,
        "bad_images": 0,
        "nonfinite_skipped": 0,
    }
    run.folder.close()


def test_an_iteration_that_was_passed_over_is_in_no_mean(tmp_path):
    run = _run(12, 4, 1, RunFolder(tmp_path, {}))
    _iterate(run, loss=2.0)
    run.nonfinite.skipped.append(1)
    _iterate(run, loss=math.inf)
    _iterate(run, loss=4.0)
    assert run.epoch_sums.mean_loss == 3.0
    run.end_epochs(run.rows_due(), 0.1, 1.0, VALIDATION)
    run.folder.close()
    with (tmp_path / "iterations.csv").open() as file:
        assert [row["loss"] for row in csv.DictReader(file)] == ["2.0", "nan", "4.0"]
    assert run.summary(1, "torch")["nonfinite_skipped"] == 1
    other = _run(12, 4, 1)
    other.resume(Checkpoint(3, {}, json.loads(json.dumps(run.manifest(0.1, "", "torch", {})))))
    assert other.nonfinite.skipped == [1]


def test_an_epoch_without_any_update_has_a_row(tmp_path):
    run = _run(4, 4, 1, RunFolder(tmp_path, {}))
    run.nonfinite.skipped.append(0)
    _iterate(run, loss=math.nan)
    run.end_epochs(run.rows_due(), 0.1, 1.0, VALIDATION)
    run.folder.close()
    with (tmp_path / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["train_loss"], row["train_error"], row["val_error"]) == ("nan", "nan", "20.0000")


def test_a_validation_that_was_not_made_is_made_by_the_run_that_goes_on():
    run = _run(8, 4, 2)
    _iterate(run)
    _iterate(run)
    run.validation_due = True
    other = _run(8, 4, 2)
    other.resume(Checkpoint(2, {}, json.loads(json.dumps(run.manifest(0.1, "", "torch", {})))))
    assert other.validation_due
    assert other.rows_due() == [0]
    other.end_epochs(other.rows_due(), 0.1, 1.0, VALIDATION)
    assert not other.validation_due
    assert other.epochs_done == 1


def test_a_run_with_its_last_validation_still_to_make_is_not_finished():
    run = _run(8, 4, 2, max_iterations=3)
    _walk(run)
    assert run.finished
    run.validation_due = True
    assert not run.finished
    # A run that goes on further has no row there.
    further = _run(8, 4, 2)
    further.resume(Checkpoint(3, {}, json.loads(json.dumps(run.manifest(0.1, "", "torch", {})))))
    assert not further.validation_due


class _Others:
    """The other processes, which have told what they tell."""

    rank, size = 0, 2

    def gather(self, value):
        return [value, value]


def test_what_processes_tell_each_other_with_the_sums():
    now_s = 0.0
    run = _run(12, 4, 3)
    run.timer = CheckpointTimer(1.0, clock_s=lambda: now_s)
    assert run.notes(rank=0) == [0.0] * 5
    now_s = 60.0
    run.bad_images.see("1.JPEG", "empty")
    assert run.notes(rank=1) == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert run.notes(rank=0) == [0.0, 1.0, 0.0, 0.0, 0.0]
    run.heed(0, [0.0, 1.0, 0.0, 0.0, 0.0], _Others())
    assert run.timer.agreed
    assert run.signals.agreed is None
    run.timer.restart()
    assert not run.timer.due
    run.heed(1, [0.0, 0.0, 0.0, 0.0, 3.0], _Others())
    assert not run.timer.agreed
    assert run.signals.agreed == signal.SIGUSR1
    with pytest.raises(Preempted, match="SIGUSR1"):
        run.signals.stop_if_agreed()


def _walk_one_epoch(run, epoch, validation):
    for _ in range(3):
        _iterate(run)
    assert run.rows_due() == [epoch]
    run.end_epochs([epoch], 0.1, 1.0, validation)


def test_the_manifest_is_what_resume_reads():
    run = _run(10, 4, 3)
    _walk(run, until=4)
    manifest = json.loads(json.dumps(run.manifest(0.25, "print", "torch", {"torch": "2"})))
    assert manifest["lr"] == 0.25
    assert manifest["recipe_hash"] == run.recipe.hash
    assert manifest["data_fingerprint"] == "print"
    assert manifest["framework"] == "torch"
    assert manifest["versions"] == {"torch": "2"}
    assert manifest["classes"] is None
    run.classes = ("ant", "bee")
    assert run.manifest(0.25, "print", "torch", {})["classes"] == ["ant", "bee"]
    other = _run(10, 4, 3)
    other.resume(Checkpoint(4, {}, manifest))
    assert (other.iteration, other.resumed_from, other.epochs_done) == (4, 4, 1)
    assert other.epoch_sums == run.epoch_sums == Sums(4, 4.0, 2.0, 4.0)


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
    run = TrainingRun(_recipe(minibatch, 5), images, None, 100, print)
    run.epochs_done, run.iteration = epochs_done, iterations_done
    assert run.rows_due() == expected
