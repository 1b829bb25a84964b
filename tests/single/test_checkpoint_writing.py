"""Which checkpoints a run folder holds, after saves that ended well and those that did not."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from hvd_imagenet.checkpoint import Checkpoint, find, latest, load, newest_readable, save
from hvd_imagenet.errors import UserError


def _checkpoint(iteration, value=0.0, val_error=None):
    weights = {"w": np.full(1000, value, np.float32)}
    return Checkpoint(iteration, {"model": weights, "momentum": weights}, {"val_error": val_error})


def _names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize(("keep", "kept"), [(1, [20]), (2, [15, 20]), (3, [10, 15, 20]), (9, [5, 10, 15, 20])])
def test_the_last_ones_are_kept(tmp_path, keep, kept):
    for iteration in (5, 10, 15, 20):
        save(tmp_path, _checkpoint(iteration), keep)
    assert _names(tmp_path) == [f"iteration-{iteration:08d}" for iteration in kept]


def test_iterations_are_ordered_as_numbers(tmp_path):
    for iteration in (5, 99_999_999, 100_000_000):
        save(tmp_path, _checkpoint(iteration), keep=2)
    assert _names(tmp_path) == ["iteration-100000000", "iteration-99999999"]
    assert latest(tmp_path).name == "iteration-100000000"


@pytest.mark.parametrize(
    ("errors", "best", "kept"),
    [
        ((9.0, 7.0, 8.0, 8.5), 10, [10, 20]),
        ((9.0, 7.0, 6.0, 5.0), 20, [20]),
        ((7.0, 7.0, 7.0, 7.0), 5, [5, 20]),  # the first of equals
        ((7.0, None, None, None), 5, [5, 20]),
        ((None, None, None, None), None, [20]),
    ],
)
def test_the_best_is_kept_too(tmp_path, errors, best, kept):
    for iteration, error in zip((5, 10, 15, 20), errors, strict=True):
        save(tmp_path, _checkpoint(iteration, iteration, error), keep=1)
    names = [f"iteration-{iteration:08d}" for iteration in kept]
    pointer = tmp_path / "checkpoints" / "best"
    if best is None:
        assert _names(tmp_path) == names
        assert not pointer.exists()
        return
    assert _names(tmp_path) == ["best", *names]
    assert pointer.read_text() == f"iteration-{best:08d}\n"
    assert find(pointer) == tmp_path / "checkpoints" / f"iteration-{best:08d}"
    assert (load(find(pointer)).tensors["model"]["w"] == best).all()
    assert find(tmp_path).name == "iteration-00000020"


@pytest.mark.parametrize("content", ["../../elsewhere", "/etc", "iteration-00000009", "", "iteration-00000005/../x"])
def test_a_pointer_that_leads_elsewhere(tmp_path, content):
    save(tmp_path, _checkpoint(5, val_error=1.0))
    pointer = tmp_path / "checkpoints" / "best"
    pointer.write_text(content)
    with pytest.raises(UserError) as caught:
        find(pointer)
    assert str(caught.value) == f"checkpoint {pointer}: names no checkpoint beside it; take another checkpoint"


def test_one_of_the_same_iteration_takes_the_place_of_the_first(tmp_path):
    save(tmp_path, _checkpoint(1))
    save(tmp_path, _checkpoint(5, value=1.0, val_error=3.0))
    path = save(tmp_path, _checkpoint(5, value=2.0))
    assert _names(tmp_path) == ["iteration-00000001", "iteration-00000005-1"]
    assert latest(tmp_path) == path
    again = save(tmp_path, _checkpoint(5, value=3.0, val_error=3.0))
    assert _names(tmp_path) == ["best", "iteration-00000001", "iteration-00000005-2"]
    assert find(tmp_path / "checkpoints" / "best") == again
    assert (load(latest(tmp_path)).tensors["model"]["w"] == 3.0).all()


def test_damaged_ones_go_when_the_run_has_written_from_before_them(tmp_path):
    for iteration in (5, 10, 15):
        last = save(tmp_path, _checkpoint(iteration), keep=2)
    (last / "model.safetensors").unlink()
    assert newest_readable(tmp_path).checkpoint.iteration == 10
    save(tmp_path, _checkpoint(12), keep=2)
    assert _names(tmp_path) == ["iteration-00000010", "iteration-00000012"]


def test_what_else_lies_there_stays(tmp_path):
    save(tmp_path, _checkpoint(5), keep=1)
    (tmp_path / "checkpoints" / "iteration-7").mkdir()
    (tmp_path / "checkpoints" / "iteration-00000009.bak").mkdir()
    (tmp_path / "checkpoints" / "mine").write_text("notes")
    save(tmp_path, _checkpoint(6), keep=1)
    assert _names(tmp_path) == ["iteration-00000006", "iteration-00000009.bak", "iteration-7", "mine"]
    assert latest(tmp_path).name == "iteration-00000006"


def test_all_of_it_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """Else a rename may be on the disk when power fails, and what it names not."""
    events, fsync, rename = [], os.fsync, Path.rename

    def note_fsync(descriptor):
        events.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def note_rename(path, target):
        events.append(("rename", path))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    path = save(tmp_path, _checkpoint(5))
    partial = path.with_name(f".{path.name}.partial")
    named = events.index(("rename", partial))
    assert {each for _, each in events[:named]} == {partial, *(partial / file.name for file in path.iterdir())}
    assert {("fsync", path.parent), ("fsync", tmp_path)} <= set(events[named:])


FILE_EVENTS = ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.fsync")


def _save_killed_at(folder, checkpoint, fatal):
    """Saves in a process that is killed before its n-th look at the disk; whether it was killed."""
    child = os.fork()
    if child == 0:
        calls = 0

        def count(event, arguments):
            nonlocal calls
            if event in FILE_EVENTS:
                calls += 1
                if calls == fatal:
                    os.kill(os.getpid(), signal.SIGKILL)

        fsync = os.fsync
        os.fsync = lambda descriptor: (count("os.fsync", ()), fsync(descriptor))[1]
        sys.addaudithook(count)
        try:
            save(folder, checkpoint, keep=1)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.waitstatus_to_exitcode(status) != 0


@pytest.mark.parametrize("iteration", [10, 20])
def test_at_no_moment_of_a_save_is_the_good_checkpoint_gone(tmp_path, iteration):
    """One checkpoint is kept, and the next one is of the same iteration or of a later one."""
    survivors = []
    for fatal in range(1, 200):
        folder = tmp_path / str(fatal)
        save(folder, _checkpoint(10, value=1.0, val_error=5.0), keep=1)
        killed = _save_killed_at(folder, _checkpoint(iteration, value=2.0, val_error=4.0), fatal)
        found = newest_readable(folder)
        assert found.warning is None
        (value,) = np.unique([np.unique(arrays["w"]) for arrays in found.checkpoint.tensors.values()])
        assert found.checkpoint.iteration == (10 if value == 1.0 else iteration)
        survivors.append(value)
        assert find(folder / "checkpoints" / "best") in (folder / "checkpoints").iterdir()
        # What the killed process left behind does not hinder the next save, and goes with it.
        assert load(save(folder, _checkpoint(30, value=3.0, val_error=3.0), keep=1)).iteration == 30
        assert _names(folder) == ["best", "iteration-00000030"]
        if not killed:
            break
    assert not killed
    assert len(survivors) > 15  # moments at which it was killed
    assert survivors == sorted(survivors)
    assert set(survivors) == {1.0, 2.0}
