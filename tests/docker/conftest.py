"""The image, built once for all tests of this folder that need it; `make test` leaves those out."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "parallel"))
sys.path.insert(0, str(Path(__file__).parent))
from engine import IMAGE, Engine, Podman, cache, docker_engine, missing

# Horovod is compiled in it, unless `install-horovod` has left the wheel.
_BUILT_WITHIN_S = 2400


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Docker, or podman; skipped where there is neither, as for a user who is not root."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with Engine() if docker_engine() else Podman(cache().with_name("hvd_imagenet-podman")) as made:
        yield made


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of the image for CPUs."""
    log = tmp_path_factory.mktemp("image") / "build.log"
    code = engine.build(log, _BUILT_WITHIN_S)
    assert code == 0, f"building {IMAGE} failed:\n{log.read_text()[-6000:]}"
    return IMAGE
