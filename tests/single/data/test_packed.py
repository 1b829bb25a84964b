import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from hvd_imagenet.data.listing import list_dataset
from hvd_imagenet.data.packed import is_packed, open_packed, verify
from hvd_imagenet.data.packing import PackOptions, pack
from hvd_imagenet.errors import UserError

AGAIN = "give the command `hvd-imagenet pack SRC DST` again, which makes only what is missing"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """30 training files of 100 kB and more, 2 for validation."""
    root, noise = tmp_path_factory.mktemp("noise"), np.random.default_rng(1)
    for split, images in (("train", 30), ("val", 2)):
        for image in range(images):
            path = root / split / f"c{image % 2}" / f"{image:02d}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(noise.bytes(100_000 + image))
    return root


@pytest.fixture
def packed(folder, tmp_path):
    train, val = list_dataset(folder)
    pack({"train": train, "val": val}, tmp_path / "p", PackOptions(shard_mb=1), 2)
    assert sorted(os.listdir(tmp_path / "p"))[1:] == [f"train-0000{shard}.arrow" for shard in range(4)] + [
        "val-00000.arrow"
    ]
    return tmp_path / "p"


def _flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def _refused(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


def test_is_packed(packed, folder):
    assert is_packed(packed)
    assert not is_packed(folder)
    (packed / "manifest.json").rename(packed / "unfinished.json")
    assert is_packed(packed)


def test_threads_read_in_any_order(packed, folder):
    images, listing = open_packed(packed)[0], list_dataset(folder)[0]
    order = np.random.default_rng(2).permutation(np.tile(np.arange(len(listing)), 40)).tolist()
    expected = [listing.read(image) for image in range(len(listing))]
    before = set(threading.enumerate())
    with ThreadPoolExecutor(8) as pool:
        assert all(data == expected[image] for data, image in zip(pool.map(images.read, order), order, strict=True))
    assert set(threading.enumerate()) <= before
    assert images.labels.dtype == np.int64


def test_names_say_which_shard_and_which_image(packed):
    images = open_packed(packed)[0]
    assert images.name(0) == f"{packed}/train-00000.arrow: c0/00.JPEG"
    assert images.name(29) == f"{packed}/train-00003.arrow: c1/29.JPEG"


def test_shards_do_not_count_against_the_limit_of_open_files(packed):
    before = len(os.listdir("/proc/self/fd"))
    images = open_packed(packed)
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(images[0].read(29)) == 100_029


def test_opening_reads_no_images_and_damage_in_one_is_found_by_verify_alone(packed):
    assert verify(packed, threads=2).splits["train"].images == 30
    _flip(packed / "train-00001.arrow", 500_000)
    assert len(open_packed(packed)[0]) == 30
    done = []
    message = _refused(verify, packed, 2, done.append)
    assert message == (
        f"{packed}: 1 of 5 shards missing or damaged: train-00001.arrow; remove those that are there and {AGAIN}"
    )
    assert sum(done) == sum(path.stat().st_size for path in packed.glob("*.arrow"))


def test_missing_and_cut_shards(packed):
    (packed / "val-00000.arrow").unlink()
    assert _refused(open_packed, packed) == f"{packed}/val-00000.arrow: no such file; {AGAIN}"
    path = packed / "train-00002.arrow"
    size = path.stat().st_size
    os.truncate(path, size - 8)
    assert _refused(open_packed, packed) == (
        f"{path}: has {size - 8} bytes, and the manifest says {size}; remove it and {AGAIN}"
    )
    assert "2 of 5 shards missing or damaged: train-00002.arrow, val-00000.arrow;" in _refused(verify, packed, 1)


@pytest.mark.parametrize("position", [-1, -300])
def test_a_shard_whose_end_is_no_arrow_file_s(packed, position):
    path = packed / "train-00000.arrow"
    content = path.read_bytes()
    path.write_bytes(content[:position] + b"\xff" * -position)
    assert _refused(open_packed, packed) == f"{path}: is damaged; remove it and {AGAIN}"


@pytest.mark.parametrize(
    "columns",
    [
        {"image": [b"x"] * 2, "label": [0, 2], "name": [b"a", b"b"]},
        {"image": [b"x"] * 2, "label": [0, -1], "name": [b"a", b"b"]},
        {"image": [b"x"], "label": [0], "name": [b"a"]},
        {"image": [b"x"] * 2, "label": [0, 1]},
    ],
)
def test_rows_that_the_manifest_does_not_promise(packed, columns):
    path = packed / "val-00000.arrow"
    types = {"image": pa.large_binary(), "label": pa.int32(), "name": pa.binary()}
    arrays = [pa.array(values, types[name]) for name, values in columns.items()]
    batch = pa.record_batch(arrays, names=list(columns))
    with pa.ipc.new_file(path, batch.schema) as file:
        file.write_batch(batch)
    manifest = json.loads((packed / "manifest.json").read_text())
    manifest["splits"]["val"]["shards"][0]["bytes"] = path.stat().st_size
    (packed / "manifest.json").write_text(json.dumps(manifest))
    assert _refused(open_packed, packed) == f"{path}: is damaged; remove it and {AGAIN}"


def test_offsets_outside_the_file_are_not_followed(packed):
    """Before the two images of the last shard lie their three offsets; the second becomes huge."""
    path = packed / "val-00000.arrow"
    content = bytearray(path.read_bytes())
    place = content.index(np.array([0, 100_000, 200_001], "<i8").tobytes())
    content[place + 8 : place + 16] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(content)
    assert _refused(open_packed, packed) == f"{path}: is damaged; remove it and {AGAIN}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "is of format version 2, newer than 1, which this hvd-imagenet reads; update"),
        ({"format": "other"}, "is damaged; remove the folder and pack the images anew"),
        ({"splits": {}}, "is damaged; remove the folder and pack the images anew"),
        ({"classes": None}, "is damaged; remove the folder and pack the images anew"),
    ],
)
def test_a_manifest_that_is_another(packed, change, message):
    path = packed / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert _refused(open_packed, packed).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    "file", ["../other/train-00000.arrow", "/etc/passwd", "p/train-00000.arrow", "..", "", 5, None]
)
def test_a_shard_that_is_not_in_the_folder(packed, file):
    path = packed / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["splits"]["train"]["shards"][0]["file"] = file
    path.write_text(json.dumps(manifest))
    for function in (open_packed, lambda folder: verify(folder, 1)):
        assert _refused(function, packed) == f"{path}: is damaged; remove the folder and pack the images anew"


def test_a_manifest_that_lacks_shards(packed):
    path = packed / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["splits"]["train"]["shards"].pop()
    path.write_text(json.dumps(manifest))
    assert _refused(open_packed, packed) == f"{path}: is damaged; remove the folder and pack the images anew"


def test_a_manifest_that_is_cut_off(packed):
    os.truncate(packed / "manifest.json", 100)
    assert _refused(open_packed, packed) == (
        f"{packed}/manifest.json: is damaged; remove the folder and pack the images anew"
    )


def test_a_folder_without_manifest(folder):
    assert _refused(verify, folder, 1) == (
        f"{folder}: has no manifest.json; name a folder that `hvd-imagenet pack` has made"
    )
