import csv
import json
import os
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from hvd_imagenet import run_folder as module
from hvd_imagenet.errors import UserError
from hvd_imagenet.run_folder import EPOCH_COLUMNS, ITERATION_COLUMNS, RunFolder, new_run_folder


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _epoch_row(epoch, iteration, error=50.0):
    values = dict.fromkeys(EPOCH_COLUMNS, 1.0)
    return values | {"epoch": epoch, "iteration": iteration, "val_error": error}


def _a_run(path, iterations=10, epochs=(4, 9)):
    folder = RunFolder(path, {"minibatch": 4})
    for iteration in range(iterations):
        folder.iteration(iteration, iteration / 5, 0.1, 1 / 3)
        if iteration in epochs:
            folder.epoch(_epoch_row(epochs.index(iteration), iteration, 50.0 - iteration))
    return folder


def test_the_files_of_a_run(tmp_path):
    folder = _a_run(tmp_path)
    folder.close({"val_error_final": 41.0, "iterations": 10})
    assert (tmp_path / "iterations.csv").read_text().startswith("iteration,epoch,lr,loss\n0,0.000000,0.1,0.333")
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == (
        "epoch,iteration,lr,train_loss,train_error,val_loss,val_error,val_error_top5,images_per_second,data_wait_percent"
    )
    assert [float(row["loss"]) for row in _rows(tmp_path / "iterations.csv")] == [1 / 3] * 10  # in full precision
    assert [(row["epoch"], row["val_error"]) for row in _rows(tmp_path / "metrics.csv")] == [
        ("0", "46.0"),
        ("1", "41.0"),
    ]
    assert folder.validation_errors == [46.0, 41.0]
    assert json.loads((tmp_path / "summary.json").read_text()) == {"val_error_final": 41.0, "iterations": 10}
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {"minibatch": 4}
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert not list(tmp_path.glob(".*partial"))


def test_a_run_that_did_not_finish_has_no_summary(tmp_path):
    _a_run(tmp_path).close()
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    ("resumed", "epochs_done", "errors"),
    [(7, 1, [46.0]), (10, 2, [46.0, 41.0]), (4, 0, []), (10, 1, [46.0]), (0, 0, [])],
)
def test_tables_are_cut_back_to_the_checkpoint(tmp_path, resumed, epochs_done, errors):
    _a_run(tmp_path).close()
    folder = RunFolder(tmp_path, {}, iteration=resumed, epochs_done=epochs_done)
    assert folder.validation_errors == errors
    folder.iteration(resumed, resumed / 5, 0.1, 9.0)
    folder.close()
    rows = _rows(tmp_path / "iterations.csv")
    assert [int(row["iteration"]) for row in rows] == list(range(resumed + 1))
    assert [float(row["loss"]) for row in rows] == [1 / 3] * resumed + [9.0]
    assert [float(row["val_error"]) for row in _rows(tmp_path / "metrics.csv")] == errors


def test_the_preliminary_row_of_an_epoch_in_progress_is_dropped(tmp_path):
    _a_run(tmp_path, iterations=7, epochs=(4, 6)).close()  # the second row is that of a stop in epoch 1
    folder = RunFolder(tmp_path, {}, iteration=7, epochs_done=1)
    folder.close()
    assert folder.validation_errors == [46.0]
    assert len(_rows(tmp_path / "iterations.csv")) == 7


@pytest.mark.parametrize("cut", range(1, 40))
def test_half_a_last_row_is_dropped(tmp_path, cut):
    _a_run(tmp_path).close()
    path = tmp_path / "iterations.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    folder = RunFolder(tmp_path, {}, iteration=10)
    folder.iteration(10, 2.0, 0.1, 9.0)
    folder.close()
    lines = path.read_text().splitlines()
    assert len({line.count(",") for line in lines}) == 1
    kept = lines[1:-1]
    # Every row that is kept is a row that was written, whole.
    assert set(kept) <= set(whole.decode().splitlines())
    assert lines[-1] == "10,2.000000,0.1,9.0"


# What may be behind the last whole row where a run was killed, or its machine has lost power.
TAILS = {
    "zeros": b"\0" * 40,
    "zeros and a line": b"\0" * 40 + b"\n",
    "more zeros than a field may have": b"\0" * 200_000 + b"\n",
    "no UTF-8": b"\xff\n",
    "no UTF-8 in a row": b"10,2.000000,0.1,\xff9.0\n",
    "half a row": b"10,2.0000",
    "a row with too few fields": b"10,2.000000,0.1\n",
    "a row with too many": b"10,2.000000,0.1,9.0,11\n",
    "a row of other characters": b"1p,2.000000,0.1,9.0\n",
    "a number that is none": b"10,2.000000,0.1,9\0\0\n",
    "a quotation mark": b'"\n',
    "whole rows behind zeros": b"\0" * 40 + b"\n10,2.000000,0.1,9.0\n",
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS.keys())
def test_what_is_no_whole_row_is_dropped_with_all_behind_it(tmp_path, capsys, tail):
    _a_run(tmp_path).close()
    path = tmp_path / "iterations.csv"
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    RunFolder(tmp_path, {}, iteration=10, epochs_done=2).close()
    assert path.read_bytes() == whole
    assert capsys.readouterr().err == ""  # nothing is lost
    path.write_bytes(whole + tail)
    folder = RunFolder(tmp_path, {}, iteration=12, epochs_done=2)
    folder.iteration(12, 2.4, 0.1, 9.0)
    folder.close()
    assert path.read_bytes() == whole + b"12,2.400000,0.1,9.0\n"
    assert capsys.readouterr().err == (
        f"warning: run folder {tmp_path}: iterations.csv lacks iterations 10 to 11, after a loss of power, perhaps; "
        f"the run goes on without them\n"
    )


@pytest.mark.parametrize(
    ("iterations", "epochs", "lost"),
    [
        (b"", b"", "iterations.csv lacks iterations 0 to 9 and metrics.csv lacks epochs 0 to 1"),
        (b"\0" * 100, None, "iterations.csv lacks iterations 0 to 9"),
        (b"\0" * 100 + b"\n", b"\0\n", "iterations.csv lacks iterations 0 to 9 and metrics.csv lacks epochs 0 to 1"),
        (None, 1, "metrics.csv lacks epoch 1"),
        (9, None, "iterations.csv lacks iteration 9"),
    ],
)
def test_one_warning_of_all_rows_that_are_lost(tmp_path, capsys, iterations, epochs, lost):
    """What is left of the two files: other bytes, so many rows, or all."""
    _a_run(tmp_path).close()
    for name, left in (("iterations.csv", iterations), ("metrics.csv", epochs)):
        path = tmp_path / name
        if isinstance(left, int):
            left = b"".join(path.read_bytes().splitlines(keepends=True)[: 1 + left])
        if left is not None:
            path.write_bytes(left)
    folder = RunFolder(tmp_path, {}, iteration=10, epochs_done=2)
    folder.close()
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: run folder {tmp_path}: {lost}, after a loss of power, perhaps; ")
    assert len(folder.validation_errors) == (2 if epochs is None else 1 if epochs == 1 else 0)


def test_a_run_that_began_with_another_run_s_checkpoint_has_lost_nothing(tmp_path, capsys):
    for _ in range(2):  # the second time after a kill before its own first checkpoint
        folder = RunFolder(tmp_path, {}, iteration=5, epochs_done=1)
        folder.iteration(5, 1.0, 0.1, 9.0)
        folder.flush()
    RunFolder(tmp_path, {}, iteration=6, epochs_done=1)
    assert capsys.readouterr().err == ""
    assert [row["iteration"] for row in _rows(tmp_path / "iterations.csv")] == ["5"]


def test_rows_and_their_names_are_on_the_disk_when_it_is_asked_for(tmp_path, monkeypatch):
    folder, synced, fsync = _a_run(tmp_path), [], os.fsync
    folder.nonfinite([(7, 0, "a.JPEG")])

    def note(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    folder.sync()
    tables = ("iterations.csv", "metrics.csv", "nonfinite.csv")
    assert synced == [*(tmp_path / name for name in tables), tmp_path]
    folder.close()


def test_rows_are_flushed_within_a_second(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    folder = RunFolder(tmp_path, {})
    folder.iteration(0, 0.0, 0.1, 1.0)
    assert _rows(tmp_path / "iterations.csv") == []
    now[0] += 1.0
    folder.iteration(1, 0.1, 0.1, 1.0)
    assert len(_rows(tmp_path / "iterations.csv")) == 2
    folder.iteration(2, 0.2, 0.1, 1.0)
    folder.flush()
    assert len(_rows(tmp_path / "iterations.csv")) == 3
    folder.close()


def test_a_row_of_an_epoch_is_there_at_once(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.iteration(0, 0.0, 0.1, 1.0)
    folder.epoch(_epoch_row(0, 0))
    assert len(_rows(tmp_path / "iterations.csv")) == len(_rows(tmp_path / "metrics.csv")) == 1
    folder.close()


def test_a_table_of_before_there_was_a_column_goes_on(tmp_path):
    _a_run(tmp_path).close()
    path = tmp_path / "metrics.csv"
    path.write_text("".join(line.rpartition(",")[0] + "\n" for line in path.read_text().splitlines()))
    assert path.read_text().splitlines()[0].endswith(",images_per_second")
    folder = RunFolder(tmp_path, {}, iteration=5, epochs_done=1)
    assert folder.validation_errors == [46.0]
    folder.epoch(_epoch_row(1, 9, 41.0) | {"data_wait_percent": "2.50"})
    folder.close()
    assert [row["data_wait_percent"] for row in _rows(path)] == ["", "2.50"]


def test_a_number_that_was_not_measured_is_left_empty(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.epoch(_epoch_row(0, 9) | {"data_wait_percent": ""})
    folder.close()
    assert [row["data_wait_percent"] for row in _rows(tmp_path / "metrics.csv")] == [""]


def test_the_images_that_could_not_be_read(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.bad_images([])
    assert not (tmp_path / "bad_images.csv").exists()
    folder.bad_images([(3, "/d/a, b.JPEG", "no such file")])
    folder.bad_images([(3, "/d/a, b.JPEG", "no such file"), (7, "/d/c.JPEG", "truncated")])
    assert (tmp_path / "bad_images.csv").read_text() == (
        'iteration,path,reason\n3,"/d/a, b.JPEG",no such file\n7,/d/c.JPEG,truncated\n'
    )
    folder.bad_images([])
    assert not list(tmp_path.glob("*bad_images*"))
    folder.close()


def test_columns():
    assert ITERATION_COLUMNS == ("iteration", "epoch", "lr", "loss")
    assert EPOCH_COLUMNS == (
        "epoch", "iteration", "lr", "train_loss", "train_error", "val_loss", "val_error", "val_error_top5",
        "images_per_second", "data_wait_percent",
    )  # fmt: skip


def test_every_run_gets_a_folder_of_its_own(tmp_path):
    folders = {new_run_folder(tmp_path / "runs", "digits") for _ in range(5)}
    assert len(folders) == 5
    assert all(folder.is_dir() and folder.name.startswith("digits-") for folder in folders)


def test_a_run_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(
        UserError,
        match=r"^run folder .*/runs/digits-[-\d]*: cannot be made \(Not a directory\); choose one with --out$",
    ):
        new_run_folder(tmp_path / "runs", "digits")


def test_a_hundred_runs_in_one_second(tmp_path, monkeypatch):
    class Clock:
        @staticmethod
        def now():
            return datetime(2026, 1, 1)

    monkeypatch.setattr(module, "datetime", Clock)
    for _ in range(100):
        new_run_folder(tmp_path, "r")
    with pytest.raises(
        UserError, match=r"r-20260101-000000-99: a hundred runs started this second; choose one with --out$"
    ):
        new_run_folder(tmp_path, "r")
