import os
import re
from pathlib import Path

import numpy as np
import pytest
from empty_files import touch

from hvd_imagenet.data.listing import Listing, list_dataset, list_images
from hvd_imagenet.errors import UserError

LAYOUT = "wanted: train/CLASS/*.JPEG and val/CLASS/*.JPEG"
REMEDY = "make one with: hvd-imagenet make-dataset DIR --source digits"
ENDINGS = "(.jpeg, .jpg, .png)"


def test_order_endings_and_labels(tmp_path):
    touch(
        tmp_path,
        "n2/b.JPEG",
        "n2/a.jpg",
        "n10/z.PNG",
        "n10/B.Jpeg",
        "n10/a.jpeg",
        "n10/readme.txt",
        "n10/._a.jpeg",
        ".cache/x.jpg",
        "dataset.json",
    )
    (tmp_path / "n2" / "folder.jpg").mkdir()
    listing = list_images(tmp_path)
    assert listing.classes == ("n10", "n2")
    assert listing.paths.tolist() == [b"n10/B.Jpeg", b"n10/a.jpeg", b"n10/z.PNG", b"n2/a.jpg", b"n2/b.JPEG"]
    assert listing.labels.tolist() == [0, 0, 0, 1, 1]
    assert listing.labels.dtype == np.int64
    assert len(listing) == 5
    assert listing.path(3) == str(tmp_path / "n2" / "a.jpg")


def test_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    touch(tmp_path, *(f"c{i}/{j}.jpg" for i in range(3) for j in range(20)))
    reference = list_images(tmp_path)
    scandir = os.scandir

    class Backwards:
        def __init__(self, path):
            self._entries = sorted(scandir(path), key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self._entries)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(os, "scandir", Backwards)
    assert (list_images(tmp_path).paths == reference.paths).all()


def test_names_that_are_not_ascii_or_not_even_text(tmp_path):
    touch(tmp_path, "größe/ü.jpg")
    (tmp_path / "größe" / os.fsdecode(b"\xff.jpg")).touch()
    listing = list_images(tmp_path)
    assert listing.classes == ("größe",)
    assert all(os.path.exists(listing.path(image)) for image in range(2))


def test_linked_folders_and_files_count(tmp_path):
    touch(tmp_path, "there/a.jpg", "here/c/own.jpg")
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "there")
    (tmp_path / "here" / "c" / "z.jpg").symlink_to(tmp_path / "there" / "a.jpg")
    assert list_images(tmp_path / "here").paths.tolist() == [b"c/own.jpg", b"c/z.jpg", b"linked/a.jpg"]


def test_validation_takes_the_training_labels(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/c/1.jpg", "val/b/1.jpg")
    train, val = list_dataset(tmp_path)
    assert train.labels.tolist() == [0, 1, 2]
    assert val.classes == train.classes == ("a", "b", "c")
    assert val.paths.tolist() == [b"b/1.jpg", b"c/1.jpg"]
    assert val.labels.tolist() == [1, 2]
    assert (train.root, val.root) == (tmp_path / "train", tmp_path / "val")


@pytest.mark.parametrize(
    ("files", "folders", "message"),
    [
        ([], [], "data folder {0}: is empty; " + LAYOUT + "; " + REMEDY),
        (["val/a/1.jpg"], [], "data folder {0}: has no folder 'train'; " + LAYOUT),
        (["train/a/1.jpg"], [], "data folder {0}: has no folder 'val'; " + LAYOUT),
        (["val/a/1.jpg"], ["train"], "{0}/train: is empty; " + LAYOUT),
        (["train/a/1.jpg"], ["val"], "{0}/val: is empty; " + LAYOUT),
        (
            ["train/a/1.jpg", "val/1.JPEG", "val/2.JPEG"],
            [],
            "{0}/val: has 2 images but no class folders, and no file says what is in them; put one of "
            "ILSVRC2012_devkit_t12.tar.gz, LOC_val_solution.csv, val_labels.txt, "
            "imagenet_2012_validation_synset_labels.txt into {0}, or sort the images into one folder a class",
        ),
        (
            ["train/1.JPEG", "val/a/1.JPEG"],
            [],
            "{0}/train: has 1 images but no class folders; sort them into one folder a class; " + LAYOUT,
        ),
        (
            ["train/a/1.jpg", "val/a/1.jpg"],
            ["train/b"],
            "{0}/train/b: class 'b' has no images " + ENDINGS + "; add some or remove the folder",
        ),
        (
            ["train/a/1.jpg", "val/a/1.gif"],
            [],
            "{0}/val/a: class 'a' has no images " + ENDINGS + "; add some or remove the folder",
        ),
        (
            ["train/a/1.jpg", "val/a/1.jpg", "val/x/1.jpg"],
            [],
            "{0}/val: class 'x' is not among the 1 training classes; remove it here, or add its training images",
        ),
        (
            ["train/a/1.jpg", "val/x/1.jpg", "val/y/1.jpg", "val/z/1.jpg"],
            [],
            "{0}/val: class 'x' (and 2 more) is not among the 1 training classes; "
            "remove it here, or add its training images",
        ),
    ],
)
def test_bad_folders(tmp_path, files, folders, message):
    touch(tmp_path, *files)
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UserError) as error:
        list_dataset(tmp_path)
    assert str(error.value) == message.format(tmp_path)


def test_missing_folder_and_file_for_a_folder(tmp_path):
    touch(tmp_path, "file")
    for name, rest in (("none", f"no such folder; {REMEDY}"), ("file", f"is not a folder; {LAYOUT}")):
        with pytest.raises(UserError) as error:
            list_dataset(tmp_path / name)
        assert str(error.value) == f"data folder {tmp_path / name}: {rest}"


def test_folder_that_cannot_be_listed(tmp_path):
    with pytest.raises(UserError) as error:
        list_images(tmp_path / "none")
    assert str(error.value) == f"{tmp_path}/none: cannot be listed (No such file or directory); {LAYOUT}"


def _listing(paths, labels, root="/r"):
    return Listing(Path(root), ("a", "b"), np.array(paths), np.array(labels))


def test_fingerprint_sees_names_labels_and_order_but_not_the_place():
    reference = _listing([b"a/1", b"b/2"], [0, 1]).fingerprint()
    assert reference == _listing([b"a/1", b"b/2"], [0, 1], root="/elsewhere").fingerprint()
    assert reference == _listing([b"a/1", b"b/2"], np.array([0, 1], dtype=np.int32)).fingerprint()
    others = [
        ([b"a/1", b"b/3"], [0, 1]),
        ([b"a/1", b"b/2"], [0, 0]),
        ([b"b/2", b"a/1"], [0, 1]),
        ([b"a/1b", b"/2"], [0, 1]),
    ]
    assert len({reference, *(_listing(*other).fingerprint() for other in others)}) == 5


def test_fingerprint_stays_the_same_over_versions():
    # Checkpoints store it: printf 'a/1\0b/2\0' plus labels 0 and 1 as 8 bytes each, through sha256sum.
    assert (
        _listing([b"a/1", b"b/2"], [0, 1])
    ).fingerprint() == "378fc74f4772d4e393fca129014e0e2b2c88922a39e7169b73161b6907a3d25b"


def test_a_file_that_is_gone_is_named(tmp_path):
    listing = list_images(touch(tmp_path, "c/1.jpg"))
    assert listing.read(0) == b""
    (tmp_path / "c" / "1.jpg").unlink()
    message = f"{tmp_path}/c/1.jpg: cannot be read (no such file); replace the file or remove it"
    with pytest.raises(UserError, match=re.escape(message)):
        listing.read(0)
