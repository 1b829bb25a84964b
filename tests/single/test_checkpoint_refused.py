"""What is no whole checkpoint, by accident or by malice, is refused with one line."""

import hashlib
import json
import os
import re

import numpy as np
import pytest
from checkpoint_tensors import made_up_tensors
from safetensors.numpy import save as safetensors_bytes

from hvd_imagenet.checkpoint import Checkpoint, load, save
from hvd_imagenet.checkpoint.format import sealed
from hvd_imagenet.errors import UserError


def _refused(path, message):
    """Loading fails with this one line."""
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value) == f"checkpoint {path}: {message}"


@pytest.mark.parametrize("name", ["model.safetensors", "momentum.safetensors"])
@pytest.mark.parametrize("position", [0, 200, -1])
def test_one_changed_byte_is_found(tmp_path, name, position):
    path = save(tmp_path, Checkpoint(1, made_up_tensors()))
    content = bytearray((path / name).read_bytes())
    content[position] ^= 1
    (path / name).write_bytes(content)
    _refused(path, f"{name} is damaged (its SHA-256 differs); take another checkpoint")


def test_a_truncated_file_is_found(tmp_path):
    path = save(tmp_path, Checkpoint(1, made_up_tensors()))
    os.truncate(path / "model.safetensors", 100)
    _refused(path, "model.safetensors is damaged (its SHA-256 differs); take another checkpoint")


def test_a_missing_file(tmp_path):
    path = save(tmp_path, Checkpoint(1, made_up_tensors()))
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
    path = save(tmp_path, Checkpoint(1, made_up_tensors()))
    if content is None:
        (path / "manifest.json").unlink()
    else:
        (path / "manifest.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=f"^{re.escape(f'checkpoint {path}: {message}')}") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_changed_digit_in_the_manifest_is_found(tmp_path):
    path = save(tmp_path, Checkpoint(1, made_up_tensors(), {"lr": 0.125}))
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
    path = save(tmp_path, Checkpoint(1, made_up_tensors()))
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["manifest_sha256"]
    (path / "manifest.json").write_text(json.dumps(sealed({**manifest, **changes})))
    with pytest.raises(UserError, match=f"^{re.escape(f'checkpoint {path}: manifest.json has {shown}')}") as caught:
        load(path)
    assert str(caught.value).endswith(", which no checkpoint has; take another checkpoint")
    assert "\n" not in str(caught.value)


def _with_model(tmp_path, content):
    """A checkpoint whose model.safetensors is anything, with the right SHA-256."""
    path = save(tmp_path, Checkpoint(1, made_up_tensors()))
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
