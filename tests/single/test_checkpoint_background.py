"""Checkpoints are written beside the training; what goes wrong there is told to whoever waits."""

import re
import threading
import time

import numpy as np
import pytest

from hvd_imagenet.checkpoint import WRITER_THREAD, BackgroundWriter, Checkpoint, background, latest
from hvd_imagenet.checkpoint.writing import save
from hvd_imagenet.errors import UserError


def _checkpoint(iteration):
    return Checkpoint(iteration, {"model": {"w": np.ones(4, np.float32)}, "momentum": {}})


def _writers():
    return [thread for thread in threading.enumerate() if thread.name == WRITER_THREAD]


def test_the_caller_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    disk, written = threading.Event(), []

    def slow(folder, checkpoint, keep):
        assert disk.wait(10)
        written.append((checkpoint.iteration, keep))

    monkeypatch.setattr(background, "save", slow)
    writer = BackgroundWriter(keep=7)
    writer.write(tmp_path, _checkpoint(5))
    assert len(_writers()) == 1
    assert not _writers()[0].daemon  # the interpreter waits for it
    assert written == []
    disk.set()
    writer.wait()
    assert written == [(5, 7)]
    assert _writers() == []


def test_there_is_one_write_at_a_time_in_order(tmp_path, monkeypatch):
    events = []

    def slow(folder, checkpoint, keep):
        events.append(f"begin {checkpoint.iteration}")
        time.sleep(0.05)
        events.append(f"end {checkpoint.iteration}")

    monkeypatch.setattr(background, "save", slow)
    writer = BackgroundWriter()
    for iteration in (1, 2, 3):
        writer.write(tmp_path, _checkpoint(iteration))
    writer.wait()
    assert events == [f"{what} {n}" for n in (1, 2, 3) for what in ("begin", "end")]


def test_waiting_for_nothing():
    writer = BackgroundWriter()
    writer.wait()
    assert not writer.failed


def test_what_a_checkpoint_relies_on_is_there_before_it_has_its_name(tmp_path):
    seen = []
    writer = BackgroundWriter()
    before = lambda: seen.append((threading.current_thread().name, latest(tmp_path)))  # noqa: E731
    writer.write(tmp_path, _checkpoint(5), before)
    writer.wait()
    assert seen == [(WRITER_THREAD, None)]
    assert latest(tmp_path).name == "iteration-00000005"


def test_without_that_there_is_no_checkpoint(tmp_path):
    def full():
        raise OSError(28, "No space left on device")

    writer = BackgroundWriter()
    writer.write(tmp_path, _checkpoint(5), before=full)
    with pytest.raises(UserError, match=r"^checkpoint of iteration 5 in .*: cannot be written \(No space left on "):
        writer.wait()
    assert latest(tmp_path) is None


def test_what_could_not_be_written_is_told_by_every_later_call(tmp_path):
    (tmp_path / "checkpoints").write_text("in the way")
    writer = BackgroundWriter()
    writer.write(tmp_path, _checkpoint(5))
    message = (
        f"checkpoint of iteration 5 in {tmp_path}: cannot be written (Not a directory); make room or mend the folder, "
        f"and start again: the run goes on from the checkpoint before it"
    )
    for call in (writer.wait, writer.wait, lambda: writer.write(tmp_path, _checkpoint(6))):
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            call()
    assert writer.failed
    assert _writers() == []


def test_a_fault_of_the_program_is_not_lost_either(tmp_path, monkeypatch):
    monkeypatch.setattr(background, "save", lambda *arguments: 1 / 0)
    writer = BackgroundWriter()
    writer.write(tmp_path, _checkpoint(5))
    with pytest.raises(ZeroDivisionError):
        writer.wait()


def test_nothing_is_left_of_a_checkpoint_that_could_not_be_written(tmp_path, monkeypatch):
    save(tmp_path, _checkpoint(5))

    def full(arrays, path):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hvd_imagenet.checkpoint.writing.save_file", full)
    writer = BackgroundWriter()
    writer.write(tmp_path, _checkpoint(6))
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        writer.wait()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["iteration-00000005"]
    assert latest(tmp_path).name == "iteration-00000005"
