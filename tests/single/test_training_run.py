"""What a run tells: its summary, its manifest, from which it goes on, and what its processes tell each other."""

import json
import signal

import pytest
from training_runs import VALIDATION, iterate, run_of, walk

from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.checkpoint_timer import CheckpointTimer
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.errors import Preempted
from hvd_imagenet.run_folder import RunFolder


def test_summary(tmp_path):
    run = run_of(12, 4, 3, RunFolder(tmp_path, {}))
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


def test_a_validation_that_was_not_made_is_made_by_the_run_that_goes_on():
    run = run_of(8, 4, 2)
    iterate(run)
    iterate(run)
    run.validation_due = True
    other = run_of(8, 4, 2)
    other.resume(Checkpoint(2, {}, json.loads(json.dumps(run.manifest(0.1, "", "torch", {})))))
    assert other.validation_due
    assert other.rows_due() == [0]
    other.end_epochs(other.rows_due(), 0.1, 1.0, VALIDATION)
    assert not other.validation_due
    assert other.epochs_done == 1


def test_a_run_with_its_last_validation_still_to_make_is_not_finished():
    run = run_of(8, 4, 2, max_iterations=3)
    walk(run)
    assert run.finished
    run.validation_due = True
    assert not run.finished
    # A run that goes on further has no row there.
    further = run_of(8, 4, 2)
    further.resume(Checkpoint(3, {}, json.loads(json.dumps(run.manifest(0.1, "", "torch", {})))))
    assert not further.validation_due


class _Others:
    """The other processes, which have told what they tell."""

    rank, size = 0, 2

    def gather(self, value):
        return [value, value]


def test_what_processes_tell_each_other_with_the_sums():
    now_s = 0.0
    run = run_of(12, 4, 3)
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
        iterate(run)
    assert run.rows_due() == [epoch]
    run.end_epochs([epoch], 0.1, 1.0, validation)


def test_the_manifest_is_what_resume_reads():
    run = run_of(10, 4, 3)
    walk(run, until=4)
    manifest = json.loads(json.dumps(run.manifest(0.25, "print", "torch", {"torch": "2"})))
    assert manifest["lr"] == 0.25
    assert manifest["recipe_hash"] == run.recipe.hash
    assert manifest["data_fingerprint"] == "print"
    assert manifest["framework"] == "torch"
    assert manifest["versions"] == {"torch": "2"}
    assert manifest["classes"] is None
    run.classes = ("ant", "bee")
    assert run.manifest(0.25, "print", "torch", {})["classes"] == ["ant", "bee"]
    other = run_of(10, 4, 3)
    other.resume(Checkpoint(4, {}, manifest))
    assert (other.iteration, other.resumed_from, other.epochs_done) == (4, 4, 1)
    assert other.epoch_sums == run.epoch_sums == Sums(4, 4.0, 2.0, 4.0)
