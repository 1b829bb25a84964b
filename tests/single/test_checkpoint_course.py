"""Checkpoints in the course of a run: their validation error, and how all ranks hear of one that was not written."""

from types import SimpleNamespace

import numpy as np
import pytest

from hvd_imagenet.checkpoint import Checkpoint, find, latest, load
from hvd_imagenet.communicator import SingleProcess
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.course import finish, save_checkpoint
from hvd_imagenet.errors import AgreedError
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.training_run import NOTES, TrainingRun


class _Folder:
    flushed = synced = 0

    def flush(self):
        self.flushed += 1

    def sync(self):
        self.synced += 1
        assert self.synced == self.flushed

    def epoch(self, row):
        pass


class _SecondRank:
    """Of two; rank 0 says `told`."""

    rank, size, local_rank = 1, 2, 1

    def __init__(self, told):
        self.told = told

    def gather(self, value):
        return [self.told, value]


def _run(folder=None):
    recipe = Recipe(minibatch=32, per_worker=32, warmup="none")
    return TrainingRun(recipe, 64, folder, 4, lambda line: None)


def _end_epoch(run, errors):
    run.epoch_sums = Sums(64.0, 1.0, 1.0, 1.0)
    run.end_epochs([run.epochs_done], 0.1, 1.0, Sums(100.0, 1.0, 100.0 - errors, 100.0))


def test_a_checkpoint_has_the_validation_error_of_its_own_weights():
    run = _run()
    assert run.manifest(0.1, "", "torch", {})["val_error"] is None
    run.iteration = 2
    _end_epoch(run, 25.0)
    assert run.manifest(0.1, "", "torch", {})["val_error"] == 25.0
    run.iteration = 3  # the weights have moved since
    assert run.manifest(0.1, "", "torch", {})["val_error"] is None


def test_a_validation_of_no_images_is_no_error():
    run = _run()
    run.end_epochs([0], 0.1, 1.0, Sums())
    assert run.manifest(0.1, "", "torch", {})["val_error"] is None


def _make(run):
    weights = {"w": np.full(3, run.iteration, np.float32)}
    return Checkpoint(run.iteration, {"model": weights, "momentum": {}}, run.manifest(0.1, "", "torch", {}))


def test_the_best_and_the_last_are_there_when_all_is_written(tmp_path):
    run = _run(_Folder())
    for iteration, errors in ((1, 20.0), (2, 10.0), (3, 30.0), (4, 40.0), (5, 50.0)):
        run.iteration = iteration
        _end_epoch(run, errors)
        save_checkpoint(run, tmp_path, SingleProcess(), lambda: _make(run))
    run.writer.wait()
    assert run.folder.flushed == run.folder.synced == 5
    assert load(latest(tmp_path)).iteration == 5
    assert load(find(tmp_path / "checkpoints" / "best")).iteration == 2
    assert len(list((tmp_path / "checkpoints").glob("iteration-*"))) == 4


def test_ranks_without_a_run_folder_make_no_checkpoint(tmp_path):
    save_checkpoint(_run(), tmp_path, SingleProcess(), lambda: pytest.fail("copied for nothing"))
    assert list(tmp_path.iterdir()) == []


def _failing(tmp_path):
    run = _run(_Folder())
    (tmp_path / "checkpoints").write_text("in the way")
    save_checkpoint(run, tmp_path, SingleProcess(), lambda: _make(run))
    while not run.writer.failed:
        pass
    return run


MESSAGE = r"^checkpoint of iteration 0 in .*: cannot be written \(Not a directory\); make room or mend the folder, "


def test_all_ranks_hear_in_the_next_iteration_what_was_not_written(tmp_path):
    run, other = _failing(tmp_path), _run()
    notes = run.notes(rank=0)
    assert len(notes) == NOTES
    assert sum(notes) == 1.0
    assert sum(other.notes(rank=1)) == 0.0
    with pytest.raises(AgreedError, match=MESSAGE) as told:
        run.heed(0, notes, SingleProcess())
    with pytest.raises(AgreedError, match=MESSAGE) as heard:
        other.heed(0, notes, _SecondRank(str(told.value)))
    assert heard.value.spokesman == 0


def test_the_next_checkpoint_and_the_end_tell_it_too(tmp_path):
    run = _failing(tmp_path)
    with pytest.raises(AgreedError, match=MESSAGE):
        save_checkpoint(run, tmp_path, SingleProcess(), lambda: _make(run))
    with pytest.raises(AgreedError, match=MESSAGE):
        finish(run, SimpleNamespace(communicator=SingleProcess()), None)
    with pytest.raises(AgreedError, match=MESSAGE):
        finish(_run(), SimpleNamespace(communicator=_SecondRank("checkpoint of iteration 0 in x: cannot be written "
            "(Not a directory); make room or mend the folder, ")), None)  # fmt: skip
