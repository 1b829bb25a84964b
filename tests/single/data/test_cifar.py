"""CIFAR's binary archives, small ones in the same format."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from hvd_imagenet.cli import main
from hvd_imagenet.data.listing import list_dataset
from hvd_imagenet.progress import own_command

NAMES = ["airplane", "automobile", "bird"]
URL = "https://www.cs.toronto.edu/~kriz/cifar.html"


def _pixels(images, seed):
    return np.random.default_rng(seed).integers(0, 256, (images, 3, 32, 32), dtype=np.uint8)


def _records(labels, seed):
    """Labels (images, 1 or 2), then all red, all green and all blue values, row by row."""
    labels = np.asarray(labels, dtype=np.uint8)
    return np.concatenate([labels, _pixels(len(labels), seed).reshape(len(labels), -1)], axis=1).tobytes()


def _cifar10():
    members = {f"data_batch_{number}.bin": _records([[number % 3], [0]], number) for number in range(1, 6)}
    members["test_batch.bin"] = _records([[2], [1], [0]], 6)
    members["batches.meta.txt"] = ("\n".join(NAMES) + "\n\n").encode()
    members["readme.html"] = b"<html>"
    return {f"cifar-10-batches-bin/{name}": content for name, content in members.items()}


def _cifar100():
    members = {
        "train.bin": _records([[1, 0], [0, 2], [0, 1]], 1),
        "test.bin": _records([[0, 1]], 2),
        "fine_label_names.txt": ("\n".join(NAMES) + "\n").encode(),
        "coarse_label_names.txt": b"vehicles\nanimals\n",
    }
    return {f"cifar-100-binary/{name}": content for name, content in members.items()}


def _archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def _make(folder, source, archive, *words):
    return main(["make-dataset", str(folder), "--source", source, "--from", str(archive), *words])


def _image(path):
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def test_cifar10(tmp_path, capsys):
    archive = _archive(tmp_path / "cifar-10-binary.tar.gz", _cifar10())
    folder = tmp_path / "cifar10"
    assert _make(folder, "cifar10", archive) == 0
    told = capsys.readouterr()
    assert told.out == (
        f"Wrote 10 training and 3 validation images to {folder}.\n"
        f"next: {own_command()} train --recipe resnet20_cifar --data {folder}\n"
    )
    assert told.err == ""
    train, val = list_dataset(folder)
    assert train.classes == tuple(NAMES)
    # Batches 1 to 5 begin with classes 1, 2, 0, 1, 2; the second image of each is of class 0.
    files = [(0, "00001"), (0, "00003"), (0, "00004"), (0, "00005"), (0, "00007"), (0, "00009")]
    files += [(1, "00000"), (1, "00006"), (2, "00002"), (2, "00008")]
    assert [train.name(i) for i in range(10)] == [f"{folder}/train/{NAMES[label]}/{file}.png" for label, file in files]
    assert train.labels.tolist() == [label for label, _ in files]
    files = ["airplane/00002", "automobile/00001", "bird/00000"]
    assert [val.name(i) for i in range(3)] == [f"{folder}/val/{file}.png" for file in files]
    for batch in range(1, 6):
        for image in (0, 1):
            (path,) = folder.glob(f"train/*/{2 * (batch - 1) + image:05d}.png")
            np.testing.assert_array_equal(_image(path), _pixels(2, batch)[image].transpose(1, 2, 0))


def test_cifar100_has_the_fine_classes(tmp_path, capsys):
    archive = _archive(tmp_path / "cifar-100-binary.tar.gz", _cifar100())
    folder = tmp_path / "d"
    assert _make(folder, "cifar100", archive) == 0
    assert f"train --recipe resnet20_cifar --data {folder}\n" in capsys.readouterr().out
    train, val = list_dataset(folder)
    assert train.classes == tuple(NAMES)
    assert [train.name(i) for i in range(3)] == [
        f"{folder}/train/{n}/0000{i}.png" for n, i in zip(NAMES, (0, 2, 1), strict=True)
    ]
    assert val.name(0) == f"{folder}/val/automobile/00000.png"
    np.testing.assert_array_equal(_image(val.name(0)), _pixels(1, 2)[0].transpose(1, 2, 0))


def test_the_second_call_needs_no_archive(tmp_path, capsys):
    archive = _archive(tmp_path / "cifar-10-binary.tar.gz", _cifar10())
    _make(tmp_path / "d", "cifar10", archive)
    archive.unlink()
    capsys.readouterr()
    assert _make(tmp_path / "d", "cifar10", archive) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/d already holds this data set.\n")
    assert _make(tmp_path / "d", "cifar10", tmp_path / "other.tar.gz") == 2
    assert "holds another data set (--source cifar10 --from cifar-10-binary.tar.gz)" in capsys.readouterr().err


def _refused(tmp_path, capsys, source, archive, *words):
    assert _make(tmp_path / "d", source, archive, *words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert not (tmp_path / "d").exists()
    return told.err.removeprefix("error: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("source", "name", "content", "message"),
    [
        (
            "cifar10",
            "data_batch_3.bin",
            None,
            f"has no cifar-10-batches-bin/data_batch_3.bin; give the binary version, cifar-10-binary.tar.gz, of {URL}",
        ),
        (
            "cifar100",
            "train.bin",
            None,
            f"has no cifar-100-binary/train.bin; give the binary version, cifar-100-binary.tar.gz, of {URL}",
        ),
        (
            "cifar10",
            "test_batch.bin",
            bytes(3073 * 2 - 1),
            "test_batch.bin has 6,145 bytes, not a multiple of 3,073; download it again",
        ),
        ("cifar100", "test.bin", b"", "test.bin has 0 bytes, not a multiple of 3,074; download it again"),
        (
            "cifar10",
            "data_batch_1.bin",
            _records([[0], [3]], 0),
            "data_batch_1.bin has an image of class 3, but there are 3; download it again",
        ),
        (
            "cifar100",
            "train.bin",
            _records([[0, 0], [0, 9]], 0),
            "train.bin has an image of class 9, but there are 3; download it again",
        ),
        *(
            (
                "cifar10",
                "batches.meta.txt",
                content,
                "batches.meta.txt must have the name of a class in every line, each of them once; download it again",
            )
            for content in (b"", b"cat\n", b"cat\ndog\ncat\n", b"cat\n../dog\n", b"cat\n.dog\n")
        ),
    ],
)
def test_archives_that_do_not_fit(tmp_path, capsys, source, name, content, message):
    members = _cifar10() if source == "cifar10" else _cifar100()
    path = next(path for path in members if path.endswith(f"/{name}"))
    members[path] = content
    archive = _archive(tmp_path / "a.tar.gz", {k: v for k, v in members.items() if v is not None})
    told = _refused(tmp_path, capsys, source, archive)
    assert told.removeprefix(f"--from {archive}: ") == message


def test_one_archive_for_the_other(tmp_path, capsys):
    archive = _archive(tmp_path / "cifar-100-binary.tar.gz", _cifar100())
    told = _refused(tmp_path, capsys, "cifar10", archive)
    assert told.startswith(f"--from {archive}: has no cifar-10-batches-bin/batches.meta.txt; give the binary version, ")


@pytest.mark.parametrize("damage", ["cut off", "one byte", "no archive", "empty"])
def test_a_damaged_archive(tmp_path, capsys, damage):
    archive = _archive(tmp_path / "cifar-10-binary.tar.gz", _cifar10())
    content = archive.read_bytes()
    middle = len(content) // 2
    damaged = {
        "cut off": content[:middle],
        "one byte": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
        "no archive": b"<html>404</html>",
        "empty": b"",
    }
    archive.write_bytes(damaged[damage])
    assert _refused(tmp_path, capsys, "cifar10", archive) == (
        f"--from {archive}: cannot be read (it is damaged, or no tar.gz archive); "
        "give the path of cifar-10-binary.tar.gz"
    )


def test_no_archive(tmp_path, capsys):
    assert main(["make-dataset", str(tmp_path / "d"), "--source", "cifar100"]) == 2
    assert capsys.readouterr().err == "error: --from is missing: give the path of cifar-100-binary.tar.gz\n"
    assert _refused(tmp_path, capsys, "cifar10", tmp_path / "none") == (
        f"--from {tmp_path}/none: cannot be read (No such file or directory); give the path of cifar-10-binary.tar.gz"
    )


def test_options_of_other_sources(tmp_path, capsys):
    assert _refused(tmp_path, capsys, "cifar10", tmp_path / "a", "--images", "9") == (
        "--images does not apply to --source cifar10, which is fixed; leave it out"
    )
    assert _refused(tmp_path, capsys, "shapes", tmp_path / "a") == (
        "--from does not apply to --source shapes, which needs no archive; leave it out"
    )
