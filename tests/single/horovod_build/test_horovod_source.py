"""The source distribution comes through pip, and nothing but the right one is taken."""

import io
import tarfile
from pathlib import Path

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build import source
from hvd_imagenet.horovod_build.source import SDIST_NAME, cache_root, fetch_sdist, sha256_of, unpack


def make_sdist(folder: Path) -> Path:
    """A source distribution that pip accepts as horovod 0.28.1, and that is not it."""
    path = folder / SDIST_NAME
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: horovod\nVersion: 0.28.1\n",
        "setup.py": "from setuptools import setup\nsetup(name='horovod', version='0.28.1')\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"horovod-0.28.1/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip looks into."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_download_of_other_content_is_refused(tmp_path: Path, index: Path) -> None:
    found = sha256_of(make_sdist(index))
    with pytest.raises(UserError) as raised:
        fetch_sdist(tmp_path / "cache")
    assert str(raised.value) == (
        f"the package index gave a {SDIST_NAME} with sha256 {found}, expected {source.SDIST_SHA256}; "
        "check `pip config list` for the index in use"
    )
    assert list((tmp_path / "cache" / "sdists").iterdir()) == []


def test_a_download_of_the_expected_content_is_kept(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = make_sdist(index)
    monkeypatch.setattr(source, "SDIST_SHA256", sha256_of(original))
    kept = fetch_sdist(tmp_path / "cache")
    assert kept == tmp_path / "cache" / "sdists" / SDIST_NAME
    original.unlink()
    assert fetch_sdist(tmp_path / "cache") == kept
    assert (unpack(kept, tmp_path) / "setup.py").is_file()
    kept.write_bytes(b"damaged")
    with pytest.raises(UserError, match="pip could not download"):
        fetch_sdist(tmp_path / "cache")


def test_no_such_download(tmp_path: Path, index: Path) -> None:
    with pytest.raises(UserError) as raised:
        fetch_sdist(tmp_path / "cache")
    message = str(raised.value)
    assert message.startswith("pip could not download horovod==0.28.1: ERROR: No matching distribution found")
    assert message.endswith(f"or put {SDIST_NAME} into {tmp_path / 'cache' / 'sdists'} yourself")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("xdg", "expected"), [("/c", "/c/hvd_imagenet"), ("", "/h/.cache/hvd_imagenet"), ("rel", "/h/.cache/hvd_imagenet")]
)
def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, xdg: str, expected: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/h")
    assert str(cache_root()) == expected
