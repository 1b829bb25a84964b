"""What happens to checkpoints: killed while they are written, damaged afterwards, no room, no right to write."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_jobs import at_once, is_one_error, newest, plan, rows, tensors, train

from hvd_imagenet import checkpoint as checkpoints

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount file systems")


def ends_as_if_undisturbed(done: Any, out: Path, undisturbed: Path) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "iterations.csv").read_bytes() == (undisturbed / "iterations.csv").read_bytes()
    for part in ("model", "momentum"):
        expected, found = tensors(undisturbed, part), tensors(out, part)
        assert sorted(found) == sorted(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_14_kill_between_write_and_rename(few_digits: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = train(2, few_digits, out, injected=plan("kill-unnamed@0:8"))
    assert done.returncode not in (0, 2), done.stdout + done.stderr
    assert [path.name for path in (out / "checkpoints").glob(".iteration-*")] == [".iteration-00000008.partial"]
    assert newest(out) == 4
    done = train(2, few_digits, out)
    assert "going on at iteration 4" in done.stdout
    assert "warning: checkpoint" not in done.stderr
    ends_as_if_undisturbed(done, out, undisturbed)
    assert not list((out / "checkpoints").glob(".iteration-*"))


def truncate(path: Path) -> None:
    os.truncate(path / "model.safetensors", 1000)


def flip_a_bit(path: Path) -> None:
    with (path / "momentum.safetensors").open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 16]))


def empty(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


def goes_back_one(data: Path, undisturbed: Path, out: Path, damage: Any, how: str) -> None:
    shutil.copytree(undisturbed, out)
    last, before = (out / "checkpoints" / f"iteration-{iteration:08d}" for iteration in (12, 8))
    damage(last)
    done = train(2, data, out)
    (warning,) = [line for line in done.stderr.splitlines() if "warning: checkpoint" in line]
    assert f"warning: checkpoint {last}: {how}" in warning
    assert warning.endswith(f"; going on from the one before it, {before}, at iteration 8")
    assert "going on at iteration 8" in done.stdout
    ends_as_if_undisturbed(done, out, undisturbed)
    assert newest(out) == 12


def test_15_a_flipped_bit_in_the_latest_checkpoint(few_digits: Path, undisturbed: Path, tmp_path: Path) -> None:
    how = "momentum.safetensors is damaged (its SHA-256 differs)"
    goes_back_one(few_digits, undisturbed, tmp_path / "run", flip_a_bit, how)


@pytest.mark.long
def test_15_a_truncated_or_empty_latest_checkpoint(few_digits: Path, undisturbed: Path, tmp_path: Path) -> None:
    how = "model.safetensors is damaged (its SHA-256 differs)"

    def asked_for_by_its_path_it_must_be_whole() -> None:
        last = shutil.copytree(undisturbed, tmp_path / "asked") / "checkpoints" / "iteration-00000012"
        truncate(last)
        done = train(2, few_digits, tmp_path / "other", "--resume", str(last))
        is_one_error(done, f"checkpoint {last}: {how}")

    at_once(
        asked_for_by_its_path_it_must_be_whole,
        lambda: goes_back_one(few_digits, undisturbed, tmp_path / "truncated", truncate, how),
        lambda: goes_back_one(few_digits, undisturbed, tmp_path / "empty", empty, "manifest.json cannot be read ("),
    )


@pytest.mark.long
def test_15_tables_after_a_loss_of_power(few_digits: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Rows of before the checkpoint were not on the disk; zeros stand there."""
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    shutil.rmtree(out / "checkpoints" / "iteration-00000012")
    for name, left in (("iterations.csv", 5), ("metrics.csv", 1)):
        whole = (out / name).read_bytes().splitlines(keepends=True)[: 1 + left]
        (out / name).write_bytes(b"".join(whole) + b"\0" * 40 + b"\n")
    done = train(2, few_digits, out)
    assert done.returncode == 0, done.stdout + done.stderr
    (warning,) = [line for line in done.stderr.splitlines() if "warning: " in line]
    assert f"warning: run folder {out}: iterations.csv lacks iterations 5 to 7 and metrics.csv lacks epoch 1" in warning
    assert [int(row["iteration"]) for row in rows(out)] == [*range(5), *range(8, 12)]
    assert [row["epoch"] for row in rows(out, "metrics.csv")] == ["0", "2"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Room for two checkpoints of this network, 0.3 MB each, and not for a third."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1000k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@needs_root
def test_16_a_full_disk(few_digits: Path, undisturbed: Path, small_disk: Path) -> None:
    out = small_disk / "run"
    done = train(2, few_digits, out)
    is_one_error(done, "cannot be written (", "No space left on device", "make room")
    written = newest(out)
    assert written in (4, 8)
    assert checkpoints.newest_readable(out).warning is None
    assert not list((out / "checkpoints").glob(".iteration-*"))  # half a checkpoint would take the room away
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    done = train(2, few_digits, out)
    assert f"going on at iteration {written}" in done.stdout
    ends_as_if_undisturbed(done, out, undisturbed)


@pytest.mark.long
def test_16_no_room_for_one_checkpoint(few_digits: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = train(2, few_digits, out, injected=plan("enospc@0:8"))
    is_one_error(done, f"checkpoint of iteration 8 in {out}: cannot be written (No space left on device", "make room")
    assert newest(out) == 4
    ends_as_if_undisturbed(train(2, few_digits, out), out, undisturbed)


@pytest.mark.long
def test_16_no_room_for_the_last_checkpoint_in_keras(few_digits: Path, tmp_path: Path) -> None:
    out, words = tmp_path / "run", ["--framework", "keras", "--max-iterations", "5"]
    done = train(2, few_digits, out, *words, injected=plan("enospc@0:5"))
    is_one_error(done, f"checkpoint of iteration 5 in {out}: cannot be written (No space left on device", "make room")
    assert newest(out) == 4
    assert not (out / "summary.json").exists()  # the run is not finished
    done = train(2, few_digits, out, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on at iteration 4" in done.stdout
    assert newest(out) == 5
    assert (out / "summary.json").exists()


@needs_root
@pytest.mark.long
def test_16_a_folder_that_becomes_read_only(few_digits: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    try:
        done = train(2, few_digits, out, injected=plan("read-only@0:8"))
        is_one_error(done, f"checkpoint of iteration 8 in {out}: cannot be written (Read-only file system)")
        assert len(rows(out)) < 12  # told before the next checkpoint was due
    finally:
        subprocess.run(["umount", str(out / "checkpoints")], check=True)
    assert newest(out) == 4
    ends_as_if_undisturbed(train(2, few_digits, out), out, undisturbed)


@needs_root
def test_16_a_folder_that_is_read_only_from_the_start(few_digits: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = train(2, few_digits, small_disk / "run")
    is_one_error(done, f"--out {small_disk / 'run'}: cannot be written (Read-only file system); choose another folder")


@pytest.mark.long
@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_checkpoints_by_the_clock(few_digits: Path, tmp_path: Path, framework: str) -> None:
    """An epoch ends after 4 iterations only; each of them takes longer than a ten thousandth of a second."""
    out = tmp_path / "run"
    words = ["--checkpoint-minutes", "1e-6", "--checkpoint-hist", "9", "--max-iterations", "3"]
    done = train(2, few_digits, out, "--framework", framework, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [path.name for path in (out / "checkpoints").glob("iteration-*")]
    assert sorted(names) == [f"iteration-{iteration:08d}" for iteration in (1, 2, 3)]


class Malice:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def test_17_a_malicious_pickle_and_a_malicious_header(few_digits: Path, tmp_path: Path) -> None:
    marker, pth, safetensors = (tmp_path / name for name in ("executed", "weights.pth", "weights.safetensors"))
    torch.save({"conv1.weight": torch.ones(1), "more": Malice(marker)}, pth)
    header = b'{"conv1.weight":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,18446744073709551615]}}'
    safetensors.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    of_pickle, of_header = at_once(
        lambda: train(2, few_digits, tmp_path / "run", "--initial-checkpoint", str(pth)),
        lambda: train(2, few_digits, tmp_path / "other", "--initial-checkpoint", str(safetensors)),
    )
    said = f"--initial-checkpoint {pth}: cannot be read as tensors alone (Weights only load failed"
    is_one_error(of_pickle, said)
    is_one_error(of_header, f"--initial-checkpoint {safetensors}: no valid safetensors file (")
    assert not marker.exists()
    torch.load(pth, weights_only=False)  # it would have been
    assert marker.exists()
