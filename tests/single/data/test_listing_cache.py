"""The cached listing is the folder's own, or it is not used."""

import os
import shutil
import time

import numpy as np
import pytest

from hvd_imagenet.data import listing_cache
from hvd_imagenet.data.class_folders import scan
from hvd_imagenet.data.listing import list_images
from hvd_imagenet.data.listing_cache import cache_file, cached_scan


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three images in two classes and one beside them, whose folders have not changed for long."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(listing_cache, "_LEAST_IMAGES", 4)
    monkeypatch.setattr(listing_cache, "_SETTLED_NS", 0)
    root = tmp_path / "train"
    for file in ("cat/1.JPEG", "cat/2.JPEG", "größe/3.JPEG", "loose.JPEG"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    time.sleep(0.02)  # the file system's clock ticks every few milliseconds
    return root


@pytest.fixture
def scans(monkeypatch):
    """The folders that were read, one after another."""
    done = []

    def count(folder):
        done.append(folder)
        return scan(folder)

    monkeypatch.setattr(listing_cache, "scan", count)
    return done


def _same(one, other):
    arrays = ("counts", "paths", "loose", "stamps")
    return one.classes == other.classes and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


def test_the_second_time_the_folder_is_not_read(folder, scans):
    first, second = cached_scan(folder), cached_scan(folder)
    assert scans == [folder]
    assert _same(first, scan(folder))
    assert _same(second, first)
    assert second.classes == ("cat", "größe")
    assert second.loose.tolist() == [b"loose.JPEG"]
    assert [path.name for path in cache_file(folder).parent.iterdir()] == [cache_file(folder).name]


def test_one_file_for_a_folder_by_whatever_path(folder, scans, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    cached_scan(folder)
    assert _same(cached_scan(tmp_path / "link"), scan(folder))
    assert scans == [folder]
    assert cache_file(tmp_path / "link") == cache_file(folder)
    assert cache_file(tmp_path / "train2") != cache_file(folder)
    assert list_images(tmp_path / "link").path(0) == str(tmp_path / "link" / "cat" / "1.JPEG")


def _add(folder):
    (folder / "cat" / "9.JPEG").touch()


def _remove(folder):
    (folder / "cat" / "1.JPEG").unlink()


def _rename(folder):
    (folder / "cat" / "1.JPEG").rename(folder / "cat" / "0.JPEG")


def _add_a_class(folder):
    (folder / "dog").mkdir()


def _rename_a_class(folder):
    (folder / "cat").rename(folder / "dog")


def _add_beside_the_classes(folder):
    (folder / "more.JPEG").touch()


def _put_another_class_folder_of_the_same_times(folder):
    before = (folder / "cat").stat()
    parent = folder.stat()
    shutil.rmtree(folder / "cat")
    (folder / "cat").mkdir()
    (folder / "cat" / "1.JPEG").touch()
    os.utime(folder / "cat", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(folder, ns=(parent.st_atime_ns, parent.st_mtime_ns))


def _add_and_set_the_time_back(folder):
    before = (folder / "cat").stat()
    _add(folder)
    os.utime(folder / "cat", ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        _add,
        _remove,
        _rename,
        _add_a_class,
        _rename_a_class,
        _add_beside_the_classes,
        _put_another_class_folder_of_the_same_times,
        _add_and_set_the_time_back,
    ],
)
def test_a_change_is_seen(folder, scans, change):
    before = cached_scan(folder)
    change(folder)
    after = cached_scan(folder)
    assert len(scans) == 2
    assert _same(after, scan(folder))
    assert not _same(after, before)


def test_a_changed_class_behind_a_link_is_seen(folder, scans, tmp_path):
    (folder / "cat").rename(tmp_path / "elsewhere")
    (folder / "cat").symlink_to(tmp_path / "elsewhere")
    cached_scan(folder)
    (tmp_path / "elsewhere" / "9.JPEG").touch()
    assert b"cat/9.JPEG" in cached_scan(folder).paths.tolist()
    assert len(scans) == 2


def test_the_contents_of_images_are_not_in_it(folder, scans):
    cached_scan(folder)
    (folder / "cat" / "1.JPEG").write_bytes(b"other")
    cached_scan(folder)
    assert len(scans) == 1


@pytest.mark.parametrize("damage", ["empty", "half", "one byte", "no archive", "an array", "a folder"])
def test_a_damaged_file_is_passed_over_and_replaced(folder, scans, damage):
    cached_scan(folder)
    path = cache_file(folder)
    content = path.read_bytes()
    middle = content.index(b"cat/1.JPEG")
    contents = {
        "empty": b"",
        "half": content[: len(content) // 2],
        "one byte": content[:middle] + b"x" + content[middle + 1 :],
        "no archive": b"not a zip file",
    }
    if damage == "an array":
        with path.open("wb") as file:
            np.save(file, np.arange(3))
    elif damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(contents[damage])
    assert _same(cached_scan(folder), scan(folder))
    assert len(scans) == 2
    cached_scan(folder)
    assert len(scans) == (3 if damage == "a folder" else 2)


def test_another_folder_s_file_is_passed_over(folder, scans, tmp_path):
    cached_scan(folder)
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "cat" / "9.JPEG").touch()
    shutil.copy(cache_file(folder), cache_file(tmp_path / "copy"))
    assert _same(cached_scan(tmp_path / "copy"), scan(tmp_path / "copy"))


def test_small_folders_and_folders_in_change_are_not_kept(folder, monkeypatch):
    monkeypatch.setattr(listing_cache, "_LEAST_IMAGES", 5)
    cached_scan(folder)
    assert not cache_file(folder).exists()
    monkeypatch.setattr(listing_cache, "_LEAST_IMAGES", 4)
    monkeypatch.setattr(listing_cache, "_SETTLED_NS", 3_600_000_000_000)
    cached_scan(folder)
    assert not cache_file(folder).exists()
    monkeypatch.setattr(listing_cache, "_SETTLED_NS", 0)
    cached_scan(folder)
    assert cache_file(folder).exists()


def test_a_cache_that_cannot_be_written_is_done_without(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert _same(cached_scan(folder), scan(folder))


def test_a_write_that_fails_leaves_nothing(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert _same(cached_scan(folder), scan(folder))
    assert list(cache_file(folder).parent.iterdir()) == []


def test_a_user_without_a_home_folder(folder, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def nowhere(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.expanduser", nowhere)
    assert _same(cached_scan(folder), scan(folder))
