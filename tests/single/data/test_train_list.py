"""Training subsets by a list of files, as they are published for 1 % and 10 % of ImageNet."""

import os

import numpy as np
import pytest

from hvd_imagenet.data.listing import list_dataset
from hvd_imagenet.data.train_list import listed_images
from hvd_imagenet.errors import UserError

PATHS = np.array([b"n1/n1_1.JPEG", b"n1/n1_2.JPEG", b"n2/n2_1.JPEG", b"n2/same.JPEG", b"n3/same.JPEG"])


def _listed(tmp_path, content):
    file = tmp_path / "list.txt"
    file.write_bytes(content)
    return listed_images(PATHS, file).tolist()


@pytest.mark.parametrize(
    ("content", "chosen"),
    [
        (b"n2_1.JPEG\nn1_1.JPEG\n", [0, 2]),
        (b"n1_2.JPEG", [1]),
        (b"n2/n2_1.JPEG\r\nn1/n1_1.JPEG\r\n\r\n", [0, 2]),
        (b"train/n1/n1_2.JPEG\n./n2/n2_1.JPEG\n/data/imagenet/train/n1/n1_1.JPEG\n", [0, 1, 2]),
        (b"n1_1.JPEG\nn1/n1_1.JPEG\nn1_1.JPEG\n", [0]),
        (b"n3/same.JPEG\n", [4]),
        (b"n2/same.JPEG\nn3/same.JPEG\n", [3, 4]),
    ],
)
def test_chosen(tmp_path, content, chosen):
    assert _listed(tmp_path, content) == chosen


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; wanted: a line such as n01440764_10026.JPEG for each image"),
        (b"\n \n", "is empty; wanted: a line such as n01440764_10026.JPEG for each image"),
        (
            b"n1_1.JPEG\nn9_1.JPEG\n",
            "'n9_1.JPEG' is not among the 5 training images; take the list that was made for them",
        ),
        (
            b"n1/n2_1.JPEG\nn1_1.JPEG\n\xff.JPEG\nn9_1.JPEG",
            "'n1/n2_1.JPEG' (and 2 more) is not among the 5 training images; take the list that was made for them",
        ),
        (
            b"same.JPEG\nn2/same.JPEG\n",
            "'same.JPEG' is the name of several training images; write CLASS/FILE",
        ),
    ],
)
def test_messages(tmp_path, content, message):
    with pytest.raises(UserError) as error:
        _listed(tmp_path, content)
    assert str(error.value) == f"--train-list {tmp_path}/list.txt: {message}"


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(UserError) as error:
        listed_images(PATHS, tmp_path / "none")
    assert str(error.value) == f"--train-list {tmp_path}/none: cannot be read (No such file or directory)"


@pytest.fixture
def data(tmp_path):
    for path in ("train/a/1.png", "train/a/2.png", "train/b/3.png", "val/a/1.png", "val/b/1.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path


def _write(folder, *lines):
    path = folder / f"{len(os.listdir(folder))}.txt"
    path.write_text("\n".join(lines))
    return path


def test_training_images_are_chosen_and_keep_their_labels(data):
    train, val = list_dataset(data, _write(data, "3.png", "2.png"))
    assert len(train) == 2
    assert train.labels.tolist() == [0, 1]
    assert [train.name(image) for image in range(2)] == [f"{data}/train/a/2.png", f"{data}/train/b/3.png"]
    assert train.read(1) == b"train/b/3.png"
    assert len(val) == 2


def test_classes_are_those_of_all_training_images(data):
    train, val = list_dataset(data, _write(data, "3.png"))
    assert train.classes == val.classes == ("a", "b")
    assert train.labels.tolist() == [1]


def test_the_fingerprint_is_that_of_the_choice(data):
    fingerprints = [
        list_dataset(data, file)[0].fingerprint()
        for file in (None, _write(data, "1.png"), _write(data, "2.png"), _write(data, "1.png", "2.png"))
    ]
    assert len(set(fingerprints)) == 4
    again = list_dataset(data, _write(data, "a/2.png", "1.png"))[0].fingerprint()
    assert again == fingerprints[3]
