"""Files that grow by records: what TensorBoard reads, and what a full disk does."""

import struct
from pathlib import Path

import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from hvd_imagenet.append_file import AppendFile, EventFile
from hvd_imagenet.errors import UserError
from hvd_imagenet.run_folder import RunFolder


def _events(folder):
    (path,) = folder.glob("events.out.tfevents.*")
    content, events = path.read_bytes(), []
    while content:
        header, checksum = content[:8], content[8:12]
        assert struct.unpack("<I", checksum)[0] == masked_crc32c(header)
        end = 12 + struct.unpack("<Q", header)[0]
        assert struct.unpack("<I", content[end : end + 4])[0] == masked_crc32c(content[12:end])
        events.append(event_pb2.Event.FromString(content[12:end]))
        content = content[end + 4 :]
    return events


def test_events_are_what_tensorboard_reads(tmp_path):
    file = EventFile(tmp_path, purge_step=7)
    file.scalar("iteration/loss", 0.5, step=7)
    file.close()
    version, start, point = _events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (7, event_pb2.SessionLog.START)
    assert (point.step, point.summary.value[0].tag, point.summary.value[0].simple_value) == (7, "iteration/loss", 0.5)


def test_a_full_device_is_told_once_and_forgotten():
    file = AppendFile(Path("/dev/full"))
    file.write(b"row")
    with pytest.raises(OSError, match="No space left on device"):
        file.flush()
    file.close()


def test_a_run_folder_on_a_full_disk(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder._iterations._file.close()
    folder._iterations._file = AppendFile(Path("/dev/full"))
    folder.iteration(0, 0.0, 0.1, 1.0)
    message = f"run folder {tmp_path}: cannot be written (No space left on device); make room or mend it, and start"
    with pytest.raises(UserError) as caught:
        folder.flush()
    assert str(caught.value) == f"{message} again"
    folder.close()


def test_rows_stay_where_the_disk_is_full_when_a_run_goes_on(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path, {})
    folder.iteration(0, 0.0, 0.1, 1.0)
    folder.close()
    before = (tmp_path / "iterations.csv").read_bytes()
    (tmp_path / ".iterations.csv.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        RunFolder(tmp_path, {}, iteration=1)
    assert (tmp_path / "iterations.csv").read_bytes() == before
