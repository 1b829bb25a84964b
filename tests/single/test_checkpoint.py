import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Checkpoint, find, latest, load, read_manifest, save
from hvd_imagenet.errors import UserError


def _tensors(dtype=np.float32, value=0.0):
    random = np.random.default_rng(1)
    return {
        "model": {
            "conv1.weight": (random.normal(size=(4, 3, 7, 7)) + value).astype(dtype),
            "bn1.running_var": np.ones(4, dtype),
            "bn1.num_batches_tracked": np.array(7, np.int64),
            "fc.weight": random.normal(size=(5, 4)).astype(dtype),
        },
        "momentum": {"conv1.weight": random.normal(size=(4, 3, 7, 7)).astype(dtype)},
    }


def _names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("parts", [("model", "momentum"), ("model", "momentum", "model_ema")])
def test_round_trip(tmp_path, dtype, parts):
    tensors = _tensors(dtype)
    tensors |= {part: {"fc.weight": np.full((5, 4), 0.5, dtype)} for part in parts[2:]}
    path = save(tmp_path, Checkpoint(123, tensors, {"lr": 0.1 + 0.2, "recipe": {"clip_grad": None}}))
    assert path == tmp_path / "checkpoints" / "iteration-00000123"
    loaded = load(path)
    assert loaded.iteration == 123
    assert loaded.manifest["lr"] == 0.1 + 0.2
    assert loaded.manifest["recipe"] == {"clip_grad": None}
    assert loaded.manifest["format"] == 1
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


def test_the_last_three_are_kept(tmp_path):
    for iteration in (5, 10, 99_999_999, 100, 15):
        save(tmp_path, Checkpoint(iteration, _tensors()))
    assert _names(tmp_path) == ["iteration-00000015", "iteration-00000100", "iteration-99999999"]
    assert latest(tmp_path).name == "iteration-99999999"


def test_the_same_iteration_is_written_over(tmp_path):
    save(tmp_path, Checkpoint(5, _tensors(value=0.0)))
    path = save(tmp_path, Checkpoint(5, _tensors(value=100.0)))
    assert load(path).tensors["model"]["conv1.weight"].min() > 50
    assert _names(tmp_path) == ["iteration-00000005"]


def test_latest_of_nothing(tmp_path):
    assert latest(tmp_path) is None
    assert latest(tmp_path / "nowhere") is None


# The process is killed at the n-th call that reaches the disk: files, manifest, folders, renaming.
KILLED_SAVE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from hvd_imagenet import checkpoint as checkpoints

fatal, calls = int(sys.argv[2]), 0
def deadly(function):
    def wrapper(*args, **kwargs):
        global calls
        calls += 1
        if calls == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapper
checkpoints._flush = deadly(checkpoints._flush)
checkpoints.save_file = deadly(checkpoints.save_file)
Path.rename = deadly(Path.rename)
Path.write_text = deadly(Path.write_text)
tensors = {"model": {"w": np.full(1000, 2.0, np.float32)}, "momentum": {"w": np.zeros(1000, np.float32)}}
checkpoints.save(Path(sys.argv[1]), checkpoints.Checkpoint(20, tensors))
"""


@pytest.mark.parametrize(("fatal", "survivor"), [(n, 10) for n in range(1, 9)] + [(9, 20), (10, 20)])
def test_a_killed_save_leaves_the_checkpoint_before_it(tmp_path, fatal, survivor):
    # 1–4 two files and their flushes, 5 manifest, 6 its flush, 7 the folder's, 8 renaming, 9 the parent's, 10 never.
    tensors = {"model": {"w": np.full(1000, 1.0, np.float32)}, "momentum": {"w": np.zeros(1000, np.float32)}}
    save(tmp_path, Checkpoint(10, tensors))
    result = subprocess.run([sys.executable, "-c", KILLED_SAVE, str(tmp_path), str(fatal)], check=False)
    assert result.returncode == (0 if fatal == 10 else -signal.SIGKILL)
    loaded = load(latest(tmp_path))
    assert loaded.iteration == survivor
    assert (loaded.tensors["model"]["w"] == survivor / 10).all()
    # What the killed process left behind does not hinder the next save.
    assert load(save(tmp_path, Checkpoint(20, tensors))).iteration == 20
    assert not [name for name in _names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("name", ["model.safetensors", "momentum.safetensors"])
@pytest.mark.parametrize("position", [0, 200, -1])
def test_one_changed_byte_is_found(tmp_path, name, position):
    path = save(tmp_path, Checkpoint(1, _tensors()))
    content = bytearray((path / name).read_bytes())
    content[position] ^= 1
    (path / name).write_bytes(content)
    message = f"checkpoint {path}: {name} is damaged (its SHA-256 differs); take another checkpoint"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        load(path)


def test_a_truncated_file_is_found(tmp_path):
    path = save(tmp_path, Checkpoint(1, _tensors()))
    os.truncate(path / "model.safetensors", 100)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        load(path)


def test_a_missing_file(tmp_path):
    path = save(tmp_path, Checkpoint(1, _tensors()))
    (path / "momentum.safetensors").unlink()
    message = f"checkpoint {path}: momentum.safetensors is missing; take another checkpoint"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        load(path)


def test_a_manifest_without_a_required_part(tmp_path):
    path = save(tmp_path, Checkpoint(1, {"model": {"w": np.zeros(1)}}))
    message = f"checkpoint {path}: manifest.json lists no momentum.safetensors; take another checkpoint"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 2}', "format 2, this version reads 1; use the version of hvd_imagenet that wrote it"),
        ("{}", "format None, this version reads 1; use the version of hvd_imagenet that wrote it"),
        (
            '{"form',
            "manifest.json cannot be read (Unterminated string starting at: line 1 column 2 (char 1)); "
            "take another checkpoint",
        ),
        (None, "manifest.json cannot be read ([Errno 2] No such file or directory: "),
        (b"\xff\xfe", "manifest.json cannot be read ('utf-8' codec can't decode byte 0xff"),
        ("[]", "format None, this version reads 1; "),
        ("7", "manifest.json cannot be read ("),
    ],
)
def test_a_bad_manifest(tmp_path, content, message):
    path = save(tmp_path, Checkpoint(1, _tensors()))
    if content is None:
        (path / "manifest.json").unlink()
    else:
        (path / "manifest.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=f"^{re.escape(f'checkpoint {path}: {message}')}") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_find_takes_a_checkpoint_or_a_run(tmp_path):
    save(tmp_path, Checkpoint(5, _tensors()))
    newest = save(tmp_path, Checkpoint(6, _tensors()))
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
    path = save(tmp_path, Checkpoint(5, _tensors(), {"recipe_hash": "abc"}))
    (path / "model.safetensors").unlink()
    manifest = read_manifest(path)
    assert manifest["recipe_hash"] == "abc"
    assert manifest["iteration"] == 5
    assert set(manifest["sha256"]) == {"model.safetensors", "momentum.safetensors"}


def test_the_manifest_is_plain_json_that_the_run_cannot_overrule(tmp_path):
    path = save(tmp_path, Checkpoint(5, _tensors(), {"iteration": 99, "sha256": {}}))
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["iteration"] == 5
    assert set(manifest["sha256"]) == {"model.safetensors", "momentum.safetensors"}
    assert isinstance(checkpoints.FORMAT, int)
    assert Path(path, "manifest.json").read_text().endswith("\n")
