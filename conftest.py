"""What concerns the doctests of the package and all tests."""

import shutil
import signal
import sys
from pathlib import Path

import pytest

# What tests/parallel has for its own tests serves those of other folders too.
sys.path.insert(0, str(Path(__file__).parent / "tests" / "parallel"))
from ranks import program, run

from hvd_imagenet.data.listing import list_dataset


def pytest_sessionstart(session: pytest.Session) -> None:
    """Lets Ctrl-C end what the tests start: a shell's job in the background ignores it, and its children with it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leaves Horovod's jobs of this process, the first joined last: it was the one that started MPI, and ends it.

    Examples join through Horovod's module for either framework, and again and again; left to themselves, they leave in
    the order of the last time that each was joined, and the process may end with an error of MPI after all tests.
    """
    joined = [name for name in sys.modules if name in ("horovod.torch", "horovod.tensorflow")]
    for name in reversed(joined):
        sys.modules[name].shutdown()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scanned digits of the embedded data set."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    done = run(program("make-dataset", str(folder), "--source", "digits"), timeout_s=60)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def few_digits(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """92 training images of 4 classes, and 23 for validation, which no number of processes up to 22 divides."""
    folder = tmp_path_factory.mktemp("data") / "few-digits"
    for split, images in {"train": (23, 23, 23, 23), "val": (6, 6, 6, 5)}.items():
        for digit, count in enumerate(images):
            target = folder / split / f"digit{digit}"
            target.mkdir(parents=True)
            for file in sorted((digits / split / target.name).iterdir())[:count]:
                shutil.copy(file, target)
    return folder


@pytest.fixture(scope="session")
def damaged_digits(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with three damaged training images: an empty file, one that is no image, and one that is cut off."""
    data = Path(shutil.copytree(few_digits, tmp_path_factory.mktemp("damaged") / "data"))
    listing = list_dataset(data)[0]
    for image, content in ((5, b""), (40, b"no image"), (77, Path(listing.name(77)).read_bytes()[:-30])):
        Path(listing.name(image)).write_bytes(content)
    return data
