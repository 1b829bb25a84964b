from pathlib import Path

import pytest

from hvd_imagenet.horovod_build.wheel_cache import CorruptWheelError, load, load_compiled, store, wheel_folder


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "horovod-0.28.1-py3-none-any.whl"
    path.write_bytes(b"content")
    return path


def test_what_is_stored_is_loaded_under_its_key_alone(tmp_path: Path, wheel: Path) -> None:
    root = tmp_path / "cache"
    assert load(root, "k") is None
    stored = store(root, "k", wheel, "c")
    assert load(root, "k") == stored
    assert stored.read_bytes() == b"content"
    assert load(root, "other") is None
    assert sorted(path.name for path in (root / "wheels").iterdir()) == ["k"]


@pytest.mark.parametrize("damage", ["changed", "cut", "wheel missing", "record missing", "record cut"])
def test_damage_is_noticed_and_mended_by_storing_again(tmp_path: Path, wheel: Path, damage: str) -> None:
    stored = store(tmp_path, "k", wheel, "c")
    record = wheel_folder(tmp_path, "k") / "wheel.json"
    if damage == "changed":
        stored.write_bytes(b"CONTENT")
    elif damage == "cut":
        stored.write_bytes(b"cont")
    elif damage == "wheel missing":
        stored.unlink()
    elif damage == "record missing":
        record.unlink()
    else:
        record.write_text('{"wheel": ')
    with pytest.raises(CorruptWheelError):
        load(tmp_path, "k")
    store(tmp_path, "k", wheel, "c")
    assert load(tmp_path, "k") == stored


def test_a_record_cannot_point_outside_its_folder(tmp_path: Path, wheel: Path) -> None:
    store(tmp_path, "k", wheel, "c")
    (wheel_folder(tmp_path, "k") / "wheel.json").write_text('{"wheel": "../../other.whl", "sha256": ""}')
    with pytest.raises(CorruptWheelError):
        load(tmp_path, "k")


def test_a_whole_wheel_is_found_by_what_was_compiled(tmp_path: Path, wheel: Path) -> None:
    assert load_compiled(tmp_path, "c") is None
    first = store(tmp_path, "k1", wheel, "c")
    store(tmp_path, "k2", wheel, "other")
    assert load_compiled(tmp_path, "c") == first
    first.write_bytes(b"damaged")
    assert load_compiled(tmp_path, "c") is None
    (wheel_folder(tmp_path, "k2") / "wheel.json").write_text("[]")
    assert load_compiled(tmp_path, "other") is None
