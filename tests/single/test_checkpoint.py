import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save as safetensors_bytes

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Checkpoint, find, latest, load, newest_readable, read_manifest, save
from hvd_imagenet.checkpoint.format import sealed
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


def _refused(path, message):
    """Loading fails with this one line."""
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value) == f"checkpoint {path}: {message}"


@pytest.mark.parametrize("name", ["model.safetensors", "momentum.safetensors"])
@pytest.mark.parametrize("position", [0, 200, -1])
def test_one_changed_byte_is_found(tmp_path, name, position):
    path = save(tmp_path, Checkpoint(1, _tensors()))
    content = bytearray((path / name).read_bytes())
    content[position] ^= 1
    (path / name).write_bytes(content)
    _refused(path, f"{name} is damaged (its SHA-256 differs); take another checkpoint")


def test_a_truncated_file_is_found(tmp_path):
    path = save(tmp_path, Checkpoint(1, _tensors()))
    os.truncate(path / "model.safetensors", 100)
    _refused(path, "model.safetensors is damaged (its SHA-256 differs); take another checkpoint")


def test_a_missing_file(tmp_path):
    path = save(tmp_path, Checkpoint(1, _tensors()))
    (path / "momentum.safetensors").unlink()
    _refused(path, "momentum.safetensors is missing; take another checkpoint")


def test_a_manifest_without_a_required_part(tmp_path):
    path = save(tmp_path, Checkpoint(1, {"model": {"w": np.zeros(1, np.float32)}}))
    _refused(path, "manifest.json lists no momentum.safetensors; take another checkpoint")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 1}', "format 1, this version reads 2; use the version of hvd_imagenet that wrote it"),
        ("{}", "format None, this version reads 2; use the version of hvd_imagenet that wrote it"),
        (
            '{"form',
            "manifest.json cannot be read (Unterminated string starting at: line 1 column 2 (char 1)); "
            "take another checkpoint",
        ),
        (None, "manifest.json cannot be read ([Errno 2] No such file or directory: "),
        (b"\xff\xfe", "manifest.json cannot be read ('utf-8' codec can't decode byte 0xff"),
        ("[]", "manifest.json is no JSON object; take another checkpoint"),
        ("7", "manifest.json is no JSON object; take another checkpoint"),
        ("[" * 100_000, "manifest.json cannot be read (maximum recursion depth exceeded"),
        ('{"format": 2}', "manifest.json is damaged (its SHA-256 differs); take another checkpoint"),
        ('{"format": "' + "2" * 200 + '"}', "format '" + "2" * 59 + "…, this version reads 2; "),
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


def test_a_changed_digit_in_the_manifest_is_found(tmp_path):
    path = save(tmp_path, Checkpoint(1, _tensors(), {"lr": 0.125}))
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("0.125", "0.126"))
    _refused(path, "manifest.json is damaged (its SHA-256 differs); take another checkpoint")


GOOD_SUMS = {"images": 1.0, "loss": 1.0, "correct": 1.0, "correct_top5": 1.0}
DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"iteration": -1}, "iteration -1"),
        ({"iteration": True}, "iteration True"),
        ({"iteration": 1.0}, "iteration 1.0"),
        ({"iteration": None}, "iteration None"),
        ({"sha256": []}, "sha256 []"),
        ({"sha256": {"../../etc/passwd": DIGEST}}, f"sha256 {str({'../../etc/passwd': DIGEST})[:60]}…"),
        ({"sha256": {"/etc/passwd.safetensors": DIGEST}}, "sha256 {'/etc/passwd.safetensors': "),
        ({"sha256": {"model.safetensors\n": DIGEST}}, "sha256 {'model.safetensors\\n': "),
        ({"sha256": {"model.safetensors": 7}}, "sha256 {'model.safetensors': 7}"),
        ({"lr": "0.1"}, "lr '0.1'"),
        ({"lr": True}, "lr True"),
        ({"recipe": None}, "recipe None"),
        ({"recipe_hash": 7}, "recipe_hash 7"),
        ({"data_fingerprint": {}}, "data_fingerprint {}"),
        ({"classes": [1]}, "classes [1]"),
        ({"epoch_sums": {**GOOD_SUMS, "more": 1.0}}, "epoch_sums {'images': 1.0, "),
        ({"epoch_sums": {**GOOD_SUMS, "loss": "x"}}, "epoch_sums {'images': 1.0, "),
        ({"epochs_done": -3}, "epochs_done -3"),
        ({"bad_images": [[1, "a"]]}, "bad_images [[1, 'a']]"),
        ({"bad_images": [[1, "a", 7]]}, "bad_images [[1, 'a', 7]]"),
        ({"nonfinite": [0.5]}, "nonfinite [0.5]"),
        ({"validation_due": 1}, "validation_due 1"),
        ({"framework": "os.system"}, "framework 'os.system'"),
        ({"val_error": float("nan")}, "val_error nan"),
        ({"val_error": 10**400}, f"val_error 1{'0' * 59}…"),
    ],
)
def test_a_whole_manifest_that_says_what_none_says(tmp_path, changes, shown):
    path = save(tmp_path, Checkpoint(1, _tensors()))
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["manifest_sha256"]
    (path / "manifest.json").write_text(json.dumps(sealed({**manifest, **changes})))
    with pytest.raises(UserError, match=f"^{re.escape(f'checkpoint {path}: manifest.json has {shown}')}") as caught:
        load(path)
    assert str(caught.value).endswith(", which no checkpoint has; take another checkpoint")
    assert "\n" not in str(caught.value)


def _with_model(tmp_path, content):
    """A checkpoint whose model.safetensors is anything, with the right SHA-256."""
    path = save(tmp_path, Checkpoint(1, _tensors()))
    (path / "model.safetensors").write_bytes(content)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["manifest_sha256"]
    manifest["sha256"]["model.safetensors"] = hashlib.sha256(content).hexdigest()
    (path / "manifest.json").write_text(json.dumps(sealed(manifest)))
    return path


def _file(header, data=b"\0" * 16):
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + data


def _entry(dtype="F32", shape=(4,), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"\xff" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        _file("nonsense"),
        _file("{}"),  # 16 bytes that nobody has named
        _file({"w": _entry(shape=(2**40, 2**40), offsets=(0, 16))}),
        _file({"w": _entry(shape=(2**62,), offsets=(0, 2**64 - 1))}),
        _file({"w": _entry(shape=(5,))}),
        _file({"w": _entry(offsets=(0, 2**40), shape=(2**38,))}),
        _file({"w": _entry(offsets=(16, 0))}),
        _file({"w": _entry(shape=(-4,))}),
        _file({"a": _entry(shape=(3,), offsets=(0, 12)), "b": _entry(shape=(2,), offsets=(8, 16))}),
        _file({"a": _entry(shape=(1,), offsets=(0, 4)), "b": _entry(shape=(2,), offsets=(8, 16))}),
        _file({"w": _entry(dtype="PICKLE")}),
        _file({"w": _entry(dtype="BF16", shape=(8,))}),
        _file({"w": _entry(dtype="F8_E4M3", shape=(16,))}),
        _file({"w": {"dtype": "F32"}}),
        _file({"w": 7}),
    ],
)
def test_a_safetensors_header_that_lies(tmp_path, content):
    path = _with_model(tmp_path, content)
    with pytest.raises(UserError, match=f"^checkpoint {re.escape(str(path))}: model.safetensors: no valid ") as caught:
        load(path)
    assert str(caught.value).endswith("); take another checkpoint")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float16"])
def test_weights_of_another_dtype(tmp_path, dtype):
    path = _with_model(tmp_path, safetensors_bytes({"w": np.zeros(4, dtype)}))
    rule = "which weights are not (float32 or float64)"
    _refused(path, f"model.safetensors: array 'w' is {dtype}, {rule}; take another checkpoint")


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
    paths = [save(tmp_path, Checkpoint(iteration, _tensors(value=iteration))) for iteration in (5, 10, 15)]
    damage(paths[2])
    found = newest_readable(tmp_path)
    assert found.path == paths[1]
    assert found.checkpoint.iteration == 10
    assert found.checkpoint.tensors["model"]["conv1.weight"].mean() > 9
    reason = how.format(path=paths[2])
    onward = f"going on from the one before it, {paths[1]}, at iteration 10"
    assert found.warning == f"checkpoint {paths[2]}: {reason}; {onward}"


def test_two_damaged_ones(tmp_path):
    paths = [save(tmp_path, Checkpoint(iteration, _tensors())) for iteration in (5, 10, 15)]
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
    path = save(tmp_path, Checkpoint(5, _tensors()))
    found = newest_readable(tmp_path)
    assert (found.path, found.warning) == (path, None)


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_anew_in_silence(tmp_path):
    path = save(tmp_path, Checkpoint(5, _tensors()))
    _truncate(path)
    message = (
        f"run folder {tmp_path}: none of its 1 checkpoints can be read: checkpoint {path}: "
        f"model.safetensors is damaged (its SHA-256 differs); start anew with another --out"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        newest_readable(tmp_path)


def test_a_checkpoint_of_another_version_is_not_passed_over(tmp_path):
    save(tmp_path, Checkpoint(5, _tensors()))
    newer = save(tmp_path, Checkpoint(6, _tensors()))
    (newer / "manifest.json").write_text('{"format": 3}')
    with pytest.raises(UserError, match=r": format 3, this version reads 2; "):
        newest_readable(tmp_path)
