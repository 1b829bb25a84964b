import json

import pytest

from hvd_imagenet.cli import main
from hvd_imagenet.data.dataset_folder import write_dataset
from hvd_imagenet.data.listing import list_dataset
from hvd_imagenet.data.shapes import ShapesOptions, shape_files
from hvd_imagenet.errors import UserError
from hvd_imagenet.progress import own_command

SMALL = ["--source", "shapes", "--images", "40", "--classes", "4", "--size", "16", "--seed", "3"]


def _make(folder, *words):
    return main(["make-dataset", str(folder), *words])


def test_digits(tmp_path, capsys):
    folder = tmp_path / "deep" / "digits"
    assert _make(folder, "--source", "digits") == 0
    told = capsys.readouterr()
    assert told.out == (
        f"Wrote 1437 training and 360 validation images to {folder}.\n"
        f"next: {own_command()} train --recipe digits --data {folder}\n"
    )
    assert told.err == ""  # no progress bar where there is no terminal
    train, val = list_dataset(folder)
    assert (len(train), len(val)) == (1437, 360)
    assert train.classes == tuple(f"digit{digit}" for digit in range(10))


def test_shapes(tmp_path, capsys):
    folder = tmp_path / "my shapes"
    assert _make(folder, *SMALL) == 0
    assert capsys.readouterr().out == (
        f"Wrote 40 training and 10 validation images to {folder}.\n"
        f"next: {own_command()} train --recipe shapes --data '{folder}'\n"
    )
    train, val = list_dataset(folder)
    assert (len(train), len(val), len(train.classes)) == (40, 10, 4)
    wanted = dict(shape_files(ShapesOptions(images=40, classes=4, size=16, seed=3)))
    assert {path: (folder / path).read_bytes() for path in wanted} == wanted
    assert json.loads((folder / "dataset.json").read_text()) == {
        "options": {"source": "shapes", "images": 40, "classes": 4, "size": 16, "seed": 3},
        "images": {"train": 40, "val": 10},
    }
    assert [entry.name for entry in tmp_path.iterdir()] == ["my shapes"]


def test_cluttered_digits(tmp_path, capsys):
    folder = tmp_path / "cluttered"
    assert _make(folder, "--source", "cluttered-digits", "--images", "40", "--size", "12", "--seed", "5") == 0
    assert capsys.readouterr().out == (
        f"Wrote 40 training and 10 validation images to {folder}.\n"
        f"next: {own_command()} train --recipe cluttered_digits --data {folder}\n"
    )
    train, val = list_dataset(folder)
    assert (len(train), len(val), len(train.classes)) == (40, 10, 10)
    assert json.loads((folder / "dataset.json").read_text())["options"] == {
        "source": "cluttered-digits", "images": 40, "size": 12, "seed": 5,
    }  # fmt: skip


def test_second_call_says_so_and_changes_nothing(tmp_path, capsys):
    _make(tmp_path / "d", *SMALL)
    before = (tmp_path / "d" / "dataset.json").stat().st_mtime_ns
    capsys.readouterr()
    assert _make(tmp_path / "d", *SMALL) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/d already holds this data set.\nnext: ")
    assert (tmp_path / "d" / "dataset.json").stat().st_mtime_ns == before


def test_empty_folder_is_taken(tmp_path):
    (tmp_path / "d").mkdir()
    assert _make(tmp_path / "d", *SMALL) == 0
    assert (tmp_path / "d" / "dataset.json").exists()


def _refused(capsys, folder, *words):
    assert _make(folder, *words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return told.err.removeprefix("error: ").removesuffix("\n")


def test_other_options_are_refused(tmp_path, capsys):
    _make(tmp_path / "d", *SMALL)
    capsys.readouterr()
    assert _refused(capsys, tmp_path / "d", *SMALL[:-1], "4") == (
        f"{tmp_path}/d: holds another data set (--source shapes --images 40 --classes 4 --size 16 --seed 3), "
        "not --source shapes --images 40 --classes 4 --size 16 --seed 4; name another folder, or remove this one first"
    )


@pytest.mark.parametrize("content", [None, "", "[]", '{"images": 1}'])
def test_foreign_folder_is_refused_and_kept(tmp_path, capsys, content):
    (tmp_path / "photo.jpg").touch()
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    message = _refused(capsys, tmp_path, *SMALL)
    assert message == f"{tmp_path}: is not empty; name another folder, or remove this one first"
    assert (tmp_path / "photo.jpg").exists()


def test_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    message = _refused(capsys, tmp_path / "file", *SMALL)
    assert message == f"{tmp_path}/file: is a file; name a folder that does not exist yet"


def test_folder_below_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert _refused(capsys, tmp_path / "file" / "d", *SMALL) == (
        f"{tmp_path}/file/d: cannot be written (Not a directory); "
        "name a folder on a disk with room and write permission"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--source", "digits", "--images", "9"],
            "--images does not apply to --source digits, which is fixed; leave it out",
        ),
        (
            ["--source", "digits", "--seed", "0"],
            "--seed does not apply to --source digits, which is fixed; leave it out",
        ),
        (
            ["--source", "cluttered-digits", "--classes", "5"],
            "--classes does not apply to --source cluttered-digits, which has ten; leave it out",
        ),
        (["--source", "cluttered-digits", "--size", "7"], "--size must be from 8 to 1024 pixels, got 7"),
        (["--source", "shapes", "--classes", "41"], "--classes must be from 2 to 40, got 41"),
        (["--source", "shapes", "--size", "8"], "--size must be from 16 to 4096 pixels, got 8"),
        (["--source", "shapes", "--seed", "-1"], "--seed must be at least 0, got -1"),
        (
            ["--source", "shapes", "--images", "10"],
            "--images must be at least 4 x classes (40), for one validation image a class, got 10",
        ),
    ],
)
def test_bad_options(tmp_path, capsys, words, message):
    assert _refused(capsys, tmp_path / "d", *words) == message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_interrupted_writing_leaves_nothing(tmp_path, interruption):
    def files():
        yield "train/a/1.JPEG", b"1"
        raise interruption

    with pytest.raises(interruption):
        write_dataset(tmp_path / "d", {"source": "x"}, files())
    assert list(tmp_path.iterdir()) == []


def test_folder_that_fills_up_meanwhile_is_kept(tmp_path):
    def files():
        yield "train/a/1.JPEG", b"1"
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "other").touch()

    with pytest.raises(UserError, match="Directory not empty"):
        write_dataset(tmp_path / "d", {"source": "x"}, files())
    assert [path.name for path in tmp_path.rglob("*")] == ["d", "other"]
