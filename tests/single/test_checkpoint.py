"""A checkpoint comes back as it was saved, is found, and the one before a damaged one is taken."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from checkpoint_tensors import made_up_tensors

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Checkpoint, find, latest, load, newest_readable, read_manifest, save
from hvd_imagenet.checkpoint.format import sealed
from hvd_imagenet.errors import UserError


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("parts", [("model", "momentum"), ("model", "momentum", "model_ema")])
def test_round_trip(tmp_path, dtype, parts):
    tensors = made_up_tensors(dtype)
    tensors |= {part: {"fc.weight": np.full((5, 4), 0.5, dtype)} for part in parts[2:]}
    path = save(tmp_path, Checkpoint(123, tensors, {"lr": 0.1 + 0.2, "recipe": {"clip_grad": None}}))
    assert path == tmp_path / "checkpoints" / "iteration-00000123"
    loaded = load(path)
    assert loaded.iteration == 123
    assert loaded.manifest["lr"] == 0.1 + 0.2
    assert loaded.manifest["recipe"] == {"clip_grad": None}
    assert loaded.manifest["format"] == 2
    assert set(loaded.tensors) == set(parts)
    for part in parts:
        assert set(loaded.tensors[part]) == set(tensors[part])
        for name, array in tensors[part].items():
            assert loaded.tensors[part][name].dtype == array.dtype
            assert loaded.tensors[part][name].shape == array.shape
            assert loaded.tensors[part][name].tobytes() == array.tobytes()


def test_arrays_that_are_not_contiguous_are_written_in_their_own_order(tmp_path):
    kernel = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    loaded = load(save(tmp_path, Checkpoint(1, {"model": {"kernel": kernel}, "momentum": {}})))
    assert np.array_equal(loaded.tensors["model"]["kernel"], kernel)


def test_latest_of_nothing(tmp_path):
    assert latest(tmp_path) is None
    assert latest(tmp_path / "nowhere") is None


def test_find_takes_a_checkpoint_or_a_run(tmp_path):
    save(tmp_path, Checkpoint(5, made_up_tensors()))
    newest = save(tmp_path, Checkpoint(6, made_up_tensors()))
    assert find(tmp_path) == newest
    older = tmp_path / "checkpoints" / "iteration-00000005"
    assert find(older) == older


def test_find_nothing(tmp_path):
    with pytest.raises(UserError, match=f"^checkpoint {re.escape(str(tmp_path / 'x'))}: no such folder$"):
        find(tmp_path / "x")
    message = (
        f"checkpoint {tmp_path}: neither a checkpoint (no manifest.json) nor a run folder with checkpoints/iteration-*"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        find(tmp_path)


def test_the_manifest_alone_can_be_read(tmp_path):
    path = save(tmp_path, Checkpoint(5, made_up_tensors(), {"recipe_hash": "abc"}))
    (path / "model.safetensors").unlink()
    manifest = read_manifest(path)
    assert manifest["recipe_hash"] == "abc"
    assert manifest["iteration"] == 5
    assert set(manifest["sha256"]) == {"model.safetensors", "momentum.safetensors"}


def test_the_manifest_is_plain_json_that_the_run_cannot_overrule(tmp_path):
    path = save(tmp_path, Checkpoint(5, made_up_tensors(), {"iteration": 99, "sha256": {}}))
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["iteration"] == 5
    assert set(manifest["sha256"]) == {"model.safetensors", "momentum.safetensors"}
    assert isinstance(checkpoints.FORMAT, int)
    assert Path(path, "manifest.json").read_text().endswith("\n")


def _truncate(path):
    os.truncate(path / "model.safetensors", 100)


def _flip(path):
    content = bytearray((path / "momentum.safetensors").read_bytes())
    content[len(content) // 2] ^= 8
    (path / "momentum.safetensors").write_bytes(content)


def _empty(path):
    for file in path.iterdir():
        file.unlink()


DAMAGES = [
    (_truncate, "model.safetensors is damaged (its SHA-256 differs)"),
    (_flip, "momentum.safetensors is damaged (its SHA-256 differs)"),
    (_empty, "manifest.json cannot be read ([Errno 2] No such file or directory: '{path}/manifest.json')"),
]


@pytest.mark.parametrize(("damage", "how"), DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_taken_with_a_warning(tmp_path, damage, how):
    paths = [save(tmp_path, Checkpoint(iteration, made_up_tensors(value=iteration))) for iteration in (5, 10, 15)]
    damage(paths[2])
    found = newest_readable(tmp_path)
    assert found.path == paths[1]
    assert found.checkpoint.iteration == 10
    assert found.checkpoint.tensors["model"]["conv1.weight"].mean() > 9
    reason = how.format(path=paths[2])
    onward = f"going on from the one before it, {paths[1]}, at iteration 10"
    assert found.warning == f"checkpoint {paths[2]}: {reason}; {onward}"


def test_two_damaged_ones(tmp_path):
    paths = [save(tmp_path, Checkpoint(iteration, made_up_tensors())) for iteration in (5, 10, 15)]
    _truncate(paths[1])
    _flip(paths[2])
    found = newest_readable(tmp_path)
    assert found.path == paths[0]
    assert found.warning == (
        f"checkpoint {paths[2]}: momentum.safetensors is damaged (its SHA-256 differs) (and 1 more); "
        f"going on from the one before it, {paths[0]}, at iteration 5"
    )


def test_a_whole_one_needs_no_warning(tmp_path):
    assert newest_readable(tmp_path) == (None, None, None)
    path = save(tmp_path, Checkpoint(5, made_up_tensors()))
    found = newest_readable(tmp_path)
    assert (found.path, found.warning) == (path, None)


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_anew_in_silence(tmp_path):
    path = save(tmp_path, Checkpoint(5, made_up_tensors()))
    _truncate(path)
    message = (
        f"run folder {tmp_path}: none of its 1 checkpoints can be read: checkpoint {path}: "
        f"model.safetensors is damaged (its SHA-256 differs); start anew with another --out"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        newest_readable(tmp_path)


def test_with_any_one_bit_of_its_manifest_flipped_the_one_before_is_taken(tmp_path):
    before = save(tmp_path, Checkpoint(5, made_up_tensors()))
    manifest = save(tmp_path, Checkpoint(6, made_up_tensors(), {"lr": 0.125})) / "manifest.json"
    whole = manifest.read_bytes()
    for bit in range(8 * len(whole)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        manifest.write_bytes(content)
        found = newest_readable(tmp_path)
        assert found.path == before, bytes(content)
        assert found.warning.startswith(f"checkpoint {manifest.parent}: manifest.json ")
    manifest.write_bytes(whole)
    assert newest_readable(tmp_path).checkpoint.iteration == 6


@pytest.mark.parametrize("manifest", [{"format": 3}, sealed({"format": 3}), sealed({"format": 1, "iteration": 6})])
def test_a_checkpoint_of_another_version_is_not_passed_over(tmp_path, manifest):
    save(tmp_path, Checkpoint(5, made_up_tensors()))
    newer = save(tmp_path, Checkpoint(6, made_up_tensors()))
    (newer / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r": format [13], this version reads 2; "):
        newest_readable(tmp_path)
