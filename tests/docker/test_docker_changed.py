"""When CI tests the image again."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docker" / "changed.sh"


def _git(repository: Path, *words: str) -> None:
    person = ["-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(repository), *person, *words], check=True, capture_output=True, timeout=60)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with this script in its first commit."""
    (tmp_path / "docker").mkdir()
    shutil.copy(SCRIPT, tmp_path / "docker")
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "--message", "first")
    return tmp_path


def _commit(repository: Path, *names: str) -> None:
    for name in names:
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        with (repository / name).open("a") as file:
            file.write("line\n")
    _git(repository, "add", ".")
    _git(repository, "commit", "--message", "next")


def _changed(repository: Path) -> bool:
    done = subprocess.run(
        [repository / "docker" / "changed.sh"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode in (0, 1)
    return done.returncode == 0


def test_only_commits_that_touch_it(repository: Path) -> None:
    assert _changed(repository)


@pytest.mark.parametrize(
    "name", ["docker/Dockerfile", "constraints.txt", "setup.cfg", "hvd_imagenet/horovod_build/patch.py"]
)
def test_touched_since(repository: Path, name: str) -> None:
    _commit(repository, "README.md")
    assert not _changed(repository)
    _commit(repository, name, "README.md")
    assert _changed(repository)
    _commit(repository, "docker/slim.sh")
    assert _changed(repository)
    _commit(repository, "README.md")
    assert not _changed(repository)


def test_there_and_back(repository: Path) -> None:
    _commit(repository, "README.md")
    _commit(repository, "constraints.txt")
    _git(repository, "revert", "--no-edit", "HEAD")
    assert not _changed(repository)


def test_not_committed_yet(repository: Path) -> None:
    _commit(repository, "README.md")
    (repository / "docker" / "changed.sh").open("a").write("# a word\n")
    assert _changed(repository)
