"""ILSVRC's flat validation folder, with the class files that people have; all made here in the published formats."""

import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from hvd_imagenet.data.imagenet import flat_classes
from hvd_imagenet.data.listing import list_dataset, list_images
from hvd_imagenet.errors import UserError

# ILSVRC's numbers do not follow the order of the WordNet IDs; those above 1000 are inner nodes.
SYNSETS = [(1, "n02119789"), (2, "n02100735"), (3, "n01440764"), (1001, "n00001740")]
TRUTH = [2, 1, 3, 1]
CLASSES = ["n02100735", "n02119789", "n01440764", "n02119789"]
LABELS = [1, 2, 0, 2]  # among the sorted classes
IMAGES = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 3, 4)]
NO_FILE = (
    "{0}/val: has 4 images but no class folders, and no file says what is in them; put one of "
    "ILSVRC2012_devkit_t12.tar.gz, LOC_val_solution.csv, val_labels.txt, imagenet_2012_validation_synset_labels.txt "
    "into {0}, or sort the images into one folder a class"
)


def _meta():
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    synsets = np.zeros((len(SYNSETS), 1), dtype=fields)
    for row, (number, wnid) in enumerate(SYNSETS):
        synsets[row, 0] = (np.uint16(number), wnid, "tench, Tinca tinca", np.uint8(number > 1000))
    file = io.BytesIO()
    savemat(file, {"synsets": synsets})
    return file.getvalue()


def _truth():
    return "".join(f"{number}\n" for number in TRUTH).encode()


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _devkit(folder):
    _write(folder / "ILSVRC2012_validation_ground_truth.txt", _truth())
    _write(folder / "meta.mat", _meta())


def _archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _kaggle(data):
    lines = [
        f"{image.removesuffix('.JPEG')},{wnid} 85 1 499 272 {wnid} 1 2 3 4"
        for image, wnid in zip(IMAGES, CLASSES, strict=True)
    ]
    _write(data / "LOC_val_solution.csv", "\n".join(["ImageId,PredictionString", *reversed(lines)]) + "\n")


@pytest.fixture
def data(tmp_path):
    for wnid in sorted({*CLASSES}):
        _write(tmp_path / "train" / wnid / f"{wnid}_1.JPEG", b"")
    for image in IMAGES:
        _write(tmp_path / "val" / image, b"")
    return tmp_path


SOURCES = {
    "devkit beside val": _devkit,
    "devkit in val": lambda data: _devkit(data / "val"),
    "devkit unpacked": lambda data: _devkit(data / "ILSVRC2012_devkit_t12" / "data"),
    "devkit archive": lambda data: _archive(
        data / "ILSVRC2012_devkit_t12.tar.gz", {"ILSVRC2012_validation_ground_truth.txt": _truth(), "meta.mat": _meta()}
    ),
    "kaggle": _kaggle,
    "a class a line": lambda data: _write(data / "val_labels.txt", "\n".join(CLASSES)),
    "TensorFlow's": lambda data: _write(
        data / "imagenet_2012_validation_synset_labels.txt", "\r\n".join(CLASSES) + "\r\n"
    ),
    "image and class": lambda data: _write(
        data / "val_labels.txt", "\n".join(f"{image} {wnid}" for image, wnid in zip(IMAGES, CLASSES, strict=True))
    ),
    "image, class": lambda data: _write(
        data / "val_labels.txt", "\n".join(f"{image},{wnid}" for image, wnid in zip(IMAGES, CLASSES, strict=True))
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_labels_of_a_flat_folder(data, source):
    SOURCES[source](data)
    train, val = list_dataset(data)
    assert val.classes == train.classes == ("n01440764", "n02100735", "n02119789")
    assert val.labels.tolist() == LABELS
    assert val.labels.dtype == np.int64
    assert [val.name(image) for image in range(4)] == [str(data / "val" / image) for image in IMAGES]


def test_some_of_the_images_are_enough(data):
    _devkit(data)
    (data / "val" / IMAGES[1]).unlink()
    assert list_dataset(data)[1].labels.tolist() == [LABELS[0], LABELS[2], LABELS[3]]


def test_the_folder_itself_may_be_named_by_a_relative_path(data, monkeypatch):
    _kaggle(data)
    monkeypatch.chdir(data / "val")
    assert flat_classes(np.array([b"ILSVRC2012_val_00000003.JPEG"]), Path("."))[0] == [CLASSES[2]]


def _refused(data):
    with pytest.raises(UserError) as error:
        list_dataset(data)
    return str(error.value)


def test_no_file(data):
    assert _refused(data) == NO_FILE.format(data)


def test_no_meta(data):
    _devkit(data)
    (data / "meta.mat").unlink()
    assert _refused(data) == (
        f"{data}/meta.mat: cannot be read (No such file or directory); "
        "put it beside ILSVRC2012_validation_ground_truth.txt"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "LOC_val_solution.csv",
            "Id,Label\nx,y\n",
            "{0}: must begin with the line ImageId,PredictionString",
        ),
        (
            "LOC_val_solution.csv",
            "ImageId,PredictionString\nILSVRC2012_val_00000002,n01440764 1 2 3 4\n",
            "{0}: has no line for the image 'ILSVRC2012_val_00000001.JPEG' (3 of 4 images); "
            "take the list made for these images",
        ),
        ("val_labels.txt", "a b c\n", "{0}: must have a class a line, or an image and its class"),
        ("val_labels.txt", "n01440764\nx n01440764\n", "{0}: must have a class a line, or an image and its class"),
        ("val_labels.txt", "", "{0}: must have a class a line, or an image and its class"),
        (
            "val_labels.txt",
            "n01440764\n" * 3,
            "{0}: has 3 lines, and none for the image 'ILSVRC2012_val_00000004.JPEG', whose name must end in a number "
            "from 1 on, such as ILSVRC2012_val_00000001.JPEG",
        ),
        (
            "val_labels.txt",
            "n01440764\nn3\nn2\nn3\n",
            "{0}: class 'n2' (and 1 more) is not among the 3 training classes; take the list made for these images",
        ),
        (
            "ILSVRC2012_validation_ground_truth.txt",
            "1\n2\n4\n1\n",
            "{0}: 4 is not a class number of meta.mat; download it again",
        ),
        (
            "ILSVRC2012_validation_ground_truth.txt",
            "1\ntwo\n",
            "{0}: invalid literal for int() with base 10: b'two' is not a class number of meta.mat; download it again",
        ),
    ],
)
def test_files_that_do_not_fit(data, name, content, message):
    _write(data / "meta.mat", _meta())
    _write(data / name, content)
    assert _refused(data) == message.format(data / name)


def test_images_without_numbers(data):
    _devkit(data)
    _write(data / "val" / "cat.JPEG", b"")
    assert "none for the image 'cat.JPEG', whose name must end in a number" in _refused(data)


@pytest.mark.parametrize("content", [b"", b"not a MATLAB file, but long enough to look like one" * 9, _meta()[:200]])
def test_a_damaged_meta(data, content):
    _devkit(data)
    (data / "meta.mat").write_bytes(content)
    beginning = f"{data}/ILSVRC2012_validation_ground_truth.txt: meta.mat of the same place cannot be read ("
    assert re.fullmatch(re.escape(beginning) + r".*\); download it again", _refused(data))


def test_a_damaged_archive(data):
    path = data / "ILSVRC2012_devkit_t12.tar.gz"
    _archive(path, {"meta.mat": _meta()})
    missing = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    assert _refused(data) == f"{path}: has no {missing}; download it again"
    _archive(path, {"ILSVRC2012_validation_ground_truth.txt": _truth(), "meta.mat": _meta()})
    content = path.read_bytes()
    for damaged in (content[:100], b"<html>404</html>", b""):
        path.write_bytes(damaged)
        message = f"{path}: cannot be read (it is damaged, or no tar.gz archive); download it again"
        assert _refused(data) == message


def test_class_folders_need_no_file(data, tmp_path):
    listing = list_images(data / "train", ["n02119789", "n01440764", "n02100735"])
    assert listing.paths.tolist() == [
        b"n02119789/n02119789_1.JPEG",
        b"n01440764/n01440764_1.JPEG",
        b"n02100735/n02100735_1.JPEG",
    ]
    assert listing.labels.tolist() == [0, 1, 2]
