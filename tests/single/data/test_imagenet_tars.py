import io
import tarfile

import numpy as np
import pytest

from hvd_imagenet.data.imagenet_tars import open_train_tar
from hvd_imagenet.data.listing import list_images
from hvd_imagenet.data.packed import open_packed
from hvd_imagenet.data.packing import PackOptions, pack
from hvd_imagenet.data.packing_sources import open_sources
from hvd_imagenet.errors import UserError

TRAIN = {f"n0{label}000000/n0{label}000000_{image}.JPEG": b"%d-%d" % (label, image) * (300 * image)
         for label in (3, 1, 2) for image in (10, 9, 1)}  # fmt: skip
VAL = {f"ILSVRC2012_val_0000000{image}.JPEG": b"v%d" % image * 1000 for image in (2, 1, 3)}
GROUND_TRUTH = "n02000000\nn01000000\nn02000000\n"


def _add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _tar(files, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            _add(archive, name, content)
    return buffer.getvalue()


def _train_tar(files=TRAIN):
    inner = {}
    for path, content in files.items():
        inner.setdefault(path.split("/")[0], {})[path.split("/")[1]] = content
    return _tar({f"{name}.tar": _tar(images) for name, images in inner.items()})


@pytest.fixture
def archives(tmp_path):
    """What is downloaded: both archives, in no order, and the classes of the validation images."""
    folder = tmp_path / "archives"
    folder.mkdir()
    (folder / "ILSVRC2012_img_train.tar").write_bytes(_train_tar())
    (folder / "ILSVRC2012_img_val.tar").write_bytes(_tar(VAL))
    (folder / "val_labels.txt").write_text(GROUND_TRUTH)
    return folder


@pytest.fixture
def extracted(tmp_path):
    """The same images, as people extract them."""
    for path, content in {
        **{f"d/train/{p}": c for p, c in TRAIN.items()},
        **{f"d/val/{p}": c for p, c in VAL.items()},
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    (tmp_path / "d" / "val_labels.txt").write_text(GROUND_TRUTH)
    return tmp_path / "d"


def _same(images, listing):
    assert images.classes == listing.classes
    np.testing.assert_array_equal(images.labels, listing.labels)
    np.testing.assert_array_equal(images.paths, listing.paths)
    assert images.fingerprint() == listing.fingerprint()
    assert [images.read(image) for image in range(len(images))] == [listing.read(i) for i in range(len(listing))]


def test_archives_are_the_folder_that_they_extract_to(archives, extracted):
    done = []
    sources = open_sources(archives, done.append)
    assert sum(done) == 3
    listing = list_images(extracted / "train")
    assert listing.paths.tolist()[:2] == [b"n01000000/n01000000_1.JPEG", b"n01000000/n01000000_10.JPEG"]
    _same(sources["train"], listing)
    _same(sources["val"], list_images(extracted / "val", listing.classes))
    assert sources["val"].labels.tolist() == [1, 0, 1]
    assert sources["train"].name(0) == f"{archives}/ILSVRC2012_img_train.tar: n01000000/n01000000_1.JPEG"


def test_archives_are_packed_as_the_folder_is(archives, extracted, tmp_path):
    options = PackOptions(shard_mb=1)
    pack(open_sources(archives), tmp_path / "a", options, 2)
    pack(open_sources(extracted), tmp_path / "f", options, 2)
    for path in (tmp_path / "f").iterdir():
        assert (tmp_path / "a" / path.name).read_bytes() == path.read_bytes()
    assert open_packed(tmp_path / "a")[1].labels.tolist() == [1, 0, 1]


def test_validation_images_may_be_in_a_folder(archives, extracted):
    (archives / "ILSVRC2012_img_val.tar").unlink()
    (extracted / "val").rename(archives / "val")
    assert open_sources(archives)["val"].labels.tolist() == [1, 0, 1]


def test_what_is_no_image_is_passed_over(archives, extracted):
    more = {**TRAIN, "n01000000/notes.txt": b"x", "n01000000/.hidden.JPEG": b"x", "n09000000/empty.txt": b"x"}
    (archives / "ILSVRC2012_img_train.tar").write_bytes(_train_tar(more))
    _same(open_train_tar(archives / "ILSVRC2012_img_train.tar"), list_images(extracted / "train"))


def _refused(folder):
    with pytest.raises(UserError) as caught:
        open_sources(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive" * 1000,
        _train_tar()[:40_000],
        _train_tar()[:700],
        _tar({"n01000000.tar": b"no archive" * 100}),
        _tar({"n01000000.tar": _tar(VAL)}, "w:gz"),
    ],
    ids=["empty", "other", "cut in an image", "cut in a header", "inner is other", "compressed"],
)
def test_an_archive_that_is_not_whole(archives, content):
    path = archives / "ILSVRC2012_img_train.tar"
    path.write_bytes(content)
    message = _refused(archives)
    assert message.startswith(f"{path}: is cut off, or no uncompressed tar archive (")
    assert message.endswith("); fetch it again and compare its checksum with the published one")


def test_an_archive_of_something_else(archives):
    (archives / "ILSVRC2012_img_train.tar").write_bytes(_tar(VAL))
    assert _refused(archives) == (
        f"{archives}/ILSVRC2012_img_train.tar: has no archives of images in it; "
        "wanted: a tar of nXXXXXXXX.tar, as published"
    )


def test_a_validation_archive_of_something_else(archives):
    (archives / "ILSVRC2012_img_val.tar").write_bytes(_tar({"x.txt": b""}))
    assert _refused(archives) == (
        f"{archives}/ILSVRC2012_img_val.tar: has no images in it; wanted: ILSVRC2012_val_*.JPEG, as published"
    )


def test_validation_images_that_nothing_says_the_classes_of(archives):
    (archives / "val_labels.txt").unlink()
    path = archives / "ILSVRC2012_img_val.tar"
    assert _refused(archives).startswith(f"{path}: has 3 images but no class folders, and no file says what is in them")


def test_validation_images_of_unknown_classes(archives):
    (archives / "val_labels.txt").write_text(GROUND_TRUTH.replace("n02", "n07"))
    assert _refused(archives) == (
        f"{archives}/val_labels.txt: class 'n07000000' is not among the 3 training classes; "
        "take the list made for these images"
    )


def test_no_validation_images(archives):
    (archives / "ILSVRC2012_img_val.tar").unlink()
    assert _refused(archives) == (
        f"{archives}: has ILSVRC2012_img_train.tar, but neither ILSVRC2012_img_val.tar nor a folder 'val'; "
        "put one of them there"
    )


def test_an_archive_that_vanishes_while_it_is_read(archives):
    images = open_sources(archives)["train"]
    (archives / "ILSVRC2012_img_train.tar").unlink()
    with pytest.raises(UserError, match=r"ILSVRC2012_img_train\.tar: cannot be read \(No such file or directory\)$"):
        images.read(0)
