"""A made-up environment: packages that importlib.metadata finds and nothing else."""

import sys
import sysconfig
from pathlib import Path

import pytest

from hvd_imagenet.horovod_build.inputs import BuildInputs
from hvd_imagenet.horovod_build.installed import BUILD_INFO_NAME, BuildInfo
from hvd_imagenet.horovod_build.toolchain import Toolchain

EXTENSIONS = {"torch": "torch/mpi_lib_v2", "tensorflow": "tensorflow/mpi_lib"}


class Site:
    """A folder that stands for site-packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, version: str) -> None:
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    def add_horovod(self, info: BuildInfo | None) -> None:
        self.add("horovod", "0.28.1+hvdimagenet")
        package = self.folder / "horovod"
        package.mkdir()
        if info is None:
            return
        (package / BUILD_INFO_NAME).write_text(info.as_json())
        for name in info.frameworks:
            path = package / (EXTENSIONS[name] + str(sysconfig.get_config_var("EXT_SUFFIX")))
            path.parent.mkdir()
            path.touch()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    library = [path for path in sys.path if "site-packages" not in path]
    monkeypatch.setattr(sys, "path", [str(folder), *library])
    return Site(folder)


@pytest.fixture
def build_inputs() -> BuildInputs:
    return BuildInputs(
        horovod="0.28.1",
        sdist_sha256="aa",
        patches_sha256="bb",
        python_patches_sha256="cc",
        python="cpython-311",
        frameworks=(("torch", "2.13.0"),),
        compiler="g++ 12",
        cmake="3.31",
        mpi="Open MPI 5.0.11",
        rpath=("$ORIGIN/..",),
        architecture=("x86_64", "avx"),
        environment=(("CXXFLAGS", "-O2"),),
    )


@pytest.fixture
def build_tools() -> Toolchain:
    return Toolchain("/c++", "g++ 12", "/cmake", "3.31", "/ninja", "/mpicxx", "Open MPI 5.0.11", ("/mpi/lib",))
