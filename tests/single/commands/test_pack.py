import io
import json

import numpy as np
import pytest
from PIL import Image

from hvd_imagenet.cli import main
from hvd_imagenet.data.listing import list_dataset
from hvd_imagenet.data.packed import open_packed
from hvd_imagenet.progress import own_command


@pytest.fixture
def folder(tmp_path):
    """Ten noisy JPEGs of 100 x 80, every second one in another class, and two small PNGs for validation."""
    noise = np.random.default_rng(0)
    for split, count, size, kind in (("train", 10, (80, 100, 3), "JPEG"), ("val", 2, (8, 8), "PNG")):
        for image in range(count):
            path = tmp_path / "my data" / split / f"c{image % 2}" / f"{image}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 256, size, np.uint8)).save(path, kind)
    return tmp_path / "my data"


def _run(capsys, *words):
    code = main(["pack", *map(str, words)])
    told = capsys.readouterr()
    assert code == 0, told.err
    assert told.err == ""  # no progress bar where there is no terminal
    return told.out


def _refused(capsys, *words):
    assert main(["pack", *map(str, words)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return told.err.removeprefix("error: ").removesuffix("\n")


def test_packs_and_says_what_comes_next(folder, tmp_path, capsys):
    target = tmp_path / "my packed"
    said = _run(capsys, folder, target, "--threads", 3)
    sizes = [sum(path.stat().st_size for path in files) / 1e6
             for files in (target.glob("*.arrow"), folder.rglob("*.*"))]  # fmt: skip
    rest = (
        f"2 shards, {sizes[0]:.1f} MB; the images' files: {sizes[1]:.1f} MB.\n"
        f"next: {own_command()} train --data '{target}'\n"
    )
    assert said == f"Packed 10 training and 2 validation images to {target}.\n{rest}"
    for images, listing in zip(open_packed(target), list_dataset(folder), strict=True):
        assert images.fingerprint() == listing.fingerprint()
    again = _run(capsys, folder, target)
    assert again == f"{target} already holds these 10 training and 2 validation images.\n{rest}"


def test_max_side(folder, tmp_path, capsys):
    _run(capsys, folder, tmp_path / "p", "--max-side", "50", "--quality", "80")
    train, val = open_packed(tmp_path / "p")
    assert [Image.open(io.BytesIO(train.read(image))).size for image in range(10)] == [(50, 40)] * 10
    listing = list_dataset(folder)[1]
    assert [val.read(image) for image in range(2)] == [listing.read(image) for image in range(2)]
    assert train.fingerprint() == f"{list_dataset(folder)[0].fingerprint()} max-side 50 quality 80"
    manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())
    assert manifest["options"] == {"max_side": 50, "quality": 80, "shard_mb": 256}


def test_quality_is_90_unless_given(folder, tmp_path, capsys):
    _run(capsys, folder, tmp_path / "p", "--max-side", "50")
    assert open_packed(tmp_path / "p")[0].fingerprint().endswith(" max-side 50 quality 90")
    assert "--quality 90 there, --quality 91 here" in _refused(
        capsys, folder, tmp_path / "p", "--max-side", "50", "--quality", "91"
    )


def test_an_image_that_cannot_be_decoded_stops_only_where_it_must_be(folder, tmp_path, capsys):
    broken = folder / "train" / "c1" / "5.JPEG"
    broken.write_bytes(broken.read_bytes()[:-2000])
    _run(capsys, folder, tmp_path / "p")
    message = _refused(capsys, folder, tmp_path / "q", "--max-side", "50")
    assert message.startswith(f"{broken}: cannot be read as an image (image file is truncated")
    _run(capsys, folder, tmp_path / "r", "--max-side", "100")


def test_verify(folder, tmp_path, capsys):
    _run(capsys, folder, tmp_path / "p")
    size = sum(path.stat().st_size for path in (tmp_path / "p").glob("*.arrow"))
    said = _run(capsys, "--verify", tmp_path / "p", "--threads", 2)
    assert said == f"{tmp_path}/p: all 2 shards are as they were written ({size / 1e6:.1f} MB).\n"
    shard = tmp_path / "p" / "train-00000.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert _refused(capsys, "--verify", tmp_path / "p") == (
        f"{tmp_path}/p: 1 of 2 shards missing or damaged: train-00000.arrow; remove those that are there and "
        "give the command `hvd-imagenet pack SRC DST` again, which makes only what is missing"
    )
    shard.unlink()
    assert _run(capsys, folder, tmp_path / "p").startswith("Packed 10 training")
    assert "all 2 shards are as they were" in _run(capsys, "--verify", tmp_path / "p")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SRC"], "name SRC, the data folder, and DST, the folder to make; see: hvd-imagenet pack --help"),
        ([], "name SRC, the data folder, and DST, the folder to make; see: hvd-imagenet pack --help"),
        (["SRC", "DST", "--verify", "DST"], "--verify takes the one folder to look at; leave out SRC and DST"),
        (["SRC", "DST", "--threads", "0"], "--threads must be an integer of 1 or more, not 0"),
        (["SRC", "DST", "--shard-mb", "0"], "--shard-mb must be at least 1, got 0"),
        (["SRC", "DST", "--max-side", "0"], "--max-side must be at least 1 pixel, got 0"),
        (["SRC", "DST", "--max-side", "9", "--quality", "0"], "--quality must be from 1 to 100, got 0"),
        (
            ["SRC", "DST", "--quality", "90"],
            "--quality is for images that are encoded again; give it with --max-side, or leave it out",
        ),
        (["SRC", "SRC"], "SRC: is SRC and DST at once; name another folder to make"),
        (["SRC", "SRC/p"], "SRC/p: lies in the folder that is to be packed, SRC; name one beside it"),
        (["--verify", "SRC"], "SRC: has no manifest.json; name a folder that `hvd-imagenet pack` has made"),
        (["DST", "DST2"], "data folder DST: no such folder; make one with: hvd-imagenet make-dataset DIR"),
    ],
)
def test_mistakes(words, message, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder.rename("SRC")
    assert _refused(capsys, *words).startswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["SRC"]


def test_an_empty_split(folder, tmp_path, capsys):
    (folder / "val").rename(tmp_path / "val")
    (folder / "val").mkdir()
    assert _refused(capsys, folder, tmp_path / "p").startswith(f"{folder}/val: is empty; wanted: ")
    assert not (tmp_path / "p").exists()
