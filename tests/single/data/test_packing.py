import hashlib
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hvd_imagenet.data.listing import list_dataset
from hvd_imagenet.data.packed import open_packed
from hvd_imagenet.data.packing import PackOptions, pack
from hvd_imagenet.data.packing_sources import check_folders, open_sources
from hvd_imagenet.errors import UserError

IMAGES = 60
IMAGE_BYTES = 50_000
ONE_MB = PackOptions(shard_mb=1)
SHARDS = ["train-00000.arrow", "train-00001.arrow", "train-00002.arrow", "val-00000.arrow"]
# Packs 45 of 60 images, and is then killed.
KILLED = """
import os, signal, sys
from pathlib import Path
from hvd_imagenet.data.packing import PackOptions, pack
from hvd_imagenet.data.packing_sources import open_sources
done = 0
def progress(images):
    global done
    done += images
    if done == 45:
        os.kill(os.getpid(), signal.SIGKILL)
pack(open_sources(Path(sys.argv[1])), Path(sys.argv[2]), PackOptions(shard_mb=1), 2, progress)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 training files of 50 kB in three classes and 4 for validation; packing need not know that they are noise."""
    root, noise = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for split, images in (("train", IMAGES), ("val", 4)):
        for image in range(images):
            path = root / split / f"class{image % 3}" / f"{image:03d}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(noise.bytes(IMAGE_BYTES))
    return root


def _pack(source, target, options=ONE_MB, threads=2):
    done = []
    manifest, made = pack(open_sources(source), target, options, threads, done.append)
    assert sum(done) == sum(split.images for split in manifest.splits.values())
    return manifest, made


def _contents(target):
    return {path.name: path.read_bytes() for path in target.iterdir()}


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("packed") / "deep" / "er"
    assert _pack(folder, target)[1] == IMAGES + 4
    return target


def test_every_byte_label_and_path_comes_back(folder, packed):
    for images, listing in zip(open_packed(packed), list_dataset(folder), strict=True):
        assert len(images) == len(listing)
        assert images.classes == listing.classes == ("class0", "class1", "class2")
        np.testing.assert_array_equal(images.labels, listing.labels)
        np.testing.assert_array_equal(images.paths, listing.paths)
        assert [images.read(image) for image in range(len(images))] == [listing.read(i) for i in range(len(listing))]
        assert images.fingerprint() == listing.fingerprint()


def test_shards_end_before_they_exceed_their_size(packed):
    assert sorted(_contents(packed)) == ["manifest.json", *SHARDS]
    rows = [pa.ipc.open_file(packed / shard).read_all().num_rows for shard in SHARDS]
    assert rows == [20, 20, 20, 4]


def test_a_larger_image_has_a_shard_of_its_own(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "d" / split / "c").mkdir(parents=True)
        for name, size in {"1": 600_000, "2": 1_500_000, "3": 400_000, "4": 600_000, "5": 1}.items():
            (tmp_path / "d" / split / "c" / f"{name}.png").write_bytes(b"x" * size)
    manifest, _ = _pack(tmp_path / "d", tmp_path / "p")
    assert [shard.rows for shard in manifest.splits["train"].shards] == [1, 1, 2, 1]


def test_the_manifest_says_what_is_there(folder, packed):
    manifest = json.loads((packed / "manifest.json").read_text())
    assert manifest["format"] == "hvd-imagenet packed images"
    assert manifest["classes"] == ["class0", "class1", "class2"]
    assert manifest["options"] == {"shard_mb": 1}
    assert manifest["versions"]["pyarrow"] == pa.__version__
    assert {name: split["images"] for name, split in manifest["splits"].items()} == {"train": IMAGES, "val": 4}
    assert manifest["splits"]["val"]["fingerprint"] == list_dataset(folder)[1].fingerprint()
    shards = [shard for split in manifest["splits"].values() for shard in split["shards"]]
    assert [shard["file"] for shard in shards] == SHARDS
    for shard in shards:
        content = (packed / shard["file"]).read_bytes()
        assert shard["bytes"] == len(content)
        assert shard["sha256"] == hashlib.sha256(content).hexdigest()
        assert shard["source_bytes"] == shard["rows"] * IMAGE_BYTES


def test_any_arrow_software_reads_a_shard(folder, packed):
    table = pa.ipc.open_file(packed / "val-00000.arrow").read_all()
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("image", "large_binary"), ("label", "int32"), ("name", "binary"),
    ]  # fmt: skip
    assert json.loads(table.schema.metadata[b"classes"]) == ["class0", "class1", "class2"]
    first = table.to_pylist()[0]
    assert (first["label"], first["name"]) == (0, b"class0/000.JPEG")
    assert first["image"] == (folder / "val" / "class0" / "000.JPEG").read_bytes()


@pytest.mark.parametrize("threads", [1, 8])
def test_the_files_do_not_depend_on_the_threads(folder, packed, tmp_path, threads):
    _pack(folder, tmp_path / "p", threads=threads)
    assert _contents(tmp_path / "p") == _contents(packed)


def test_a_second_call_changes_nothing(folder, tmp_path):
    _pack(folder, tmp_path / "p")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "p").iterdir()}
    manifest, made = _pack(folder, tmp_path / "p")
    assert (made, manifest.splits["train"].images) == (0, IMAGES)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "p").iterdir()} == before


def test_a_killed_one_goes_on_after_its_last_shard(folder, packed, tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(tmp_path / "p")], check=False)
    assert killed.returncode == -signal.SIGKILL
    visible = {name for name in _contents(tmp_path / "p") if not name.startswith(".")}
    assert visible == {"unfinished.json", *SHARDS[:2]}
    with pytest.raises(UserError) as caught:
        open_packed(tmp_path / "p")
    assert str(caught.value) == (
        f"{tmp_path}/p: is not packed to its end; give its command `hvd-imagenet pack SRC DST` again, which goes on"
    )
    kept = (tmp_path / "p" / SHARDS[1]).stat().st_mtime_ns
    assert _pack(folder, tmp_path / "p")[1] == 24  # of the third training shard, and for validation
    assert (tmp_path / "p" / SHARDS[1]).stat().st_mtime_ns == kept
    assert _contents(tmp_path / "p") == _contents(packed)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
@pytest.mark.parametrize("shard", [SHARDS[1], SHARDS[3]])
def test_a_missing_or_cut_shard_is_made_anew_and_no_other(folder, packed, tmp_path, damage, shard):
    _pack(folder, tmp_path / "p")
    kept = (tmp_path / "p" / SHARDS[0]).stat().st_mtime_ns
    damage(tmp_path / "p" / shard)
    assert _pack(folder, tmp_path / "p")[1] == (4 if shard == SHARDS[3] else 20)
    assert (tmp_path / "p" / SHARDS[0]).stat().st_mtime_ns == kept
    assert _contents(tmp_path / "p") == _contents(packed)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (PackOptions(shard_mb=2), "--shard-mb 1 there, --shard-mb 2 here"),
        (
            PackOptions(max_side_px=400, quality=80, shard_mb=1),
            "no --max-side there, --max-side 400 here; no --quality there, --quality 80 here",
        ),
    ],
)
def test_other_options_are_refused(folder, packed, options, difference):
    before = _contents(packed)
    with pytest.raises(UserError) as caught:
        _pack(folder, packed, options)
    assert str(caught.value) == (
        f"{packed}: holds other packed images: {difference}; "
        "give the same options and source, name another folder, or remove this one first"
    )
    assert _contents(packed) == before


def test_another_source_is_refused(folder, packed, tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "class0").mkdir(parents=True)
        (tmp_path / split / "class0" / "0.png").touch()
    with pytest.raises(UserError, match="its images have other names or classes than those of the source; give the "):
        _pack(tmp_path, packed)


def test_packed_images_can_be_packed_again(packed, tmp_path):
    sources = dict(zip(("train", "val"), open_packed(packed), strict=True))
    manifest, _ = pack(sources, tmp_path / "p", PackOptions(shard_mb=2), 2)
    assert [shard.rows for shard in manifest.splits["train"].shards] == [40, 20]
    for there, here in zip(open_packed(packed), open_packed(tmp_path / "p"), strict=True):
        assert here.fingerprint() == there.fingerprint()
        assert [here.read(image) for image in range(len(here))] == [there.read(image) for image in range(len(there))]


def test_a_folder_with_something_else_is_left_as_it_is(folder, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError) as caught:
        _pack(folder, tmp_path)
    assert str(caught.value) == f"{tmp_path}: is not empty; name another folder, or remove this one first"
    assert _contents(tmp_path) == {"thesis.tex": b""}


def test_a_second_process_is_refused(folder, tmp_path):
    messages = []

    def second(images):
        if not messages:
            with pytest.raises(UserError) as caught:
                _pack(folder, tmp_path / "p")
            messages.append(str(caught.value))

    pack(open_sources(folder), tmp_path / "p", ONE_MB, 1, second)
    assert messages == [f"{tmp_path}/p: another process is packing into it; wait for its end"]
    assert sorted(_contents(tmp_path / "p")) == ["manifest.json", *SHARDS]


def test_a_full_disk_is_one_line_and_what_is_done_is_kept(folder, packed, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    def fill(images):
        if (tmp_path / "p" / SHARDS[0]).exists():
            monkeypatch.setattr("hvd_imagenet.data.shard_writer.os.fsync", full)

    with pytest.raises(UserError) as caught:
        pack(open_sources(folder), tmp_path / "p", ONE_MB, 2, fill)
    assert str(caught.value) == (
        f"{tmp_path}/p: cannot be written (No space left on device); make room or name a folder that can be written "
        "and give the command again, which goes on where it ended"
    )
    assert sorted(_contents(tmp_path / "p")) == [SHARDS[0], "unfinished.json"]
    monkeypatch.undo()
    assert _pack(folder, tmp_path / "p")[1] == 44
    assert _contents(tmp_path / "p") == _contents(packed)


def test_a_folder_that_cannot_be_made_is_one_line(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^/.*/file/p: cannot be written \(Not a directory\); make room or name a "):
        _pack(folder, tmp_path / "file" / "p")


def test_a_file_that_cannot_be_read_stops_with_its_path(folder, tmp_path):
    sources = open_sources(folder)
    sources["train"].paths[7] = b"class0/gone.png"
    before = set(threading.enumerate())
    try:
        with pytest.raises(UserError, match=r"train/class0/gone\.png: cannot be read \(no such file\)"):
            pack(sources, tmp_path / "p", ONE_MB, 2)
    finally:
        assert set(threading.enumerate()) <= before
    assert sorted(_contents(tmp_path / "p")) == ["unfinished.json"]


def test_source_and_target_are_kept_apart(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "d")
    check_folders(tmp_path / "d", tmp_path / "d-packed")
    for target, message in {
        "file": "is a file; name a folder that does not exist yet",
        "d": "is SRC and DST at once; name another folder to make",
        "link": "is SRC and DST at once; name another folder to make",
        "d/p": f"lies in the folder that is to be packed, {tmp_path}/d; name one beside it",
        "link/p/q": f"lies in the folder that is to be packed, {tmp_path}/d; name one beside it",
    }.items():
        with pytest.raises(UserError) as caught:
            check_folders(tmp_path / "d", tmp_path / target)
        assert str(caught.value) == f"{tmp_path / target}: {message}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_side_px": 0, "quality": 90}, "max-side must be at least 1 pixel, got 0"),
        ({"max_side_px": 400, "quality": 101}, "quality must be from 1 to 100, got 101"),
        ({"quality": 90}, "quality is for images that are encoded again; give it with --max-side, or leave it out"),
        ({"shard_mb": 0}, "shard-mb must be at least 1, got 0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError) as caught:
        PackOptions(**options)
    assert str(caught.value) == message
