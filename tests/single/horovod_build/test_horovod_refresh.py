"""A wheel with new Python files, as pip sees it."""

import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from hvd_imagenet.horovod_build import install, wheel_cache
from hvd_imagenet.horovod_build.inputs import BuildInputs
from hvd_imagenet.horovod_build.installed import BUILD_INFO_NAME, BuildInfo
from hvd_imagenet.horovod_build.progress import BuildProgress
from hvd_imagenet.horovod_build.refresh import refreshed_wheel

INFO = "horovod-0.28.1.dist-info"
CONTENT = {
    "horovod/__init__.py": "OLD = 1\n",
    "horovod/torch/mpi_lib_v2.so": "compiled",
    f"horovod/{BUILD_INFO_NAME}": "{}",
    "horovod/generated.py": "GENERATED = 1\n",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: horovod\nVersion: 0.28.1\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: false\nTag: py3-none-any\n",
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "horovod-0.28.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in CONTENT.items():
            archive.writestr(name, text)
        archive.writestr(f"{INFO}/RECORD", "".join(f"{name},,\n" for name in [*CONTENT, f"{INFO}/RECORD"]))
    return path


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    (folder / "horovod").mkdir(parents=True)
    (folder / "horovod/__init__.py").write_text("NEW = 2\n")
    (folder / "horovod/not_in_the_wheel.py").write_text("")
    return folder


def test_python_files_and_the_record_of_the_build_are_new(tmp_path: Path, wheel: Path, sources: Path) -> None:
    info, made = BuildInfo("key", {"torch": "2.13.0"}), tmp_path / "made"
    made.mkdir()
    new = refreshed_wheel(wheel, sources, info, made)
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(new)], check=True)
    assert (target / "horovod/__init__.py").read_text() == "NEW = 2\n"
    assert (target / "horovod/torch/mpi_lib_v2.so").read_text() == "compiled"
    assert (target / "horovod/generated.py").read_text() == "GENERATED = 1\n"
    assert not (target / "horovod/not_in_the_wheel.py").exists()
    assert BuildInfo.from_json((target / "horovod" / BUILD_INFO_NAME).read_text()).key == "key"
    with zipfile.ZipFile(new) as archive:
        assert "horovod/__init__.py,sha256=" in archive.read(f"{INFO}/RECORD").decode()


def test_install_takes_a_cached_wheel_that_differs_in_python_files(
    tmp_path: Path, wheel: Path, sources: Path, build_inputs: BuildInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "fetch_sdist", lambda root: tmp_path)
    monkeypatch.setattr(install, "unpack", lambda sdist, folder: sources)
    monkeypatch.setattr(install, "apply_patches", lambda root, patches: None)
    wheel_cache.store(tmp_path, build_inputs.key(), wheel, build_inputs.compiled_key())
    made = tmp_path / "made"
    made.mkdir()
    newer = replace(build_inputs, python_patches_sha256="another")
    assert install._refreshed(tmp_path, newer, made, BuildProgress()) == made / wheel.name
    assert install._refreshed(tmp_path, replace(newer, compiler="clang"), made, BuildProgress()) is None
