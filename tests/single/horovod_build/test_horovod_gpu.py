from pathlib import Path

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build import gpu
from hvd_imagenet.horovod_build.gpu import cuda_home, gpu_variables, name_for_the_linker

TORCH = {"torch": "2.13.0"}


@pytest.fixture
def toolkit(tmp_path: Path) -> Path:
    nvcc = tmp_path / "cuda" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.touch(mode=0o755)
    (tmp_path / "cuda" / "include").mkdir()
    (tmp_path / "cuda" / "include" / "cuda_runtime.h").touch()
    return tmp_path / "cuda"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for name in ("lib/libnccl.so.2", "include/nccl.h"):
        file = tmp_path / "packages" / "nvidia" / "nccl" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "packages"


def test_torch_with_nccl_and_nvcc_is_built_for_gpus(toolkit: Path, packages: Path) -> None:
    nccl = str(packages / "nvidia" / "nccl")
    assert gpu_variables({"CUDA_HOME": str(toolkit)}, packages, TORCH) == {
        "HOROVOD_GPU_OPERATIONS": "NCCL",
        "HOROVOD_CUDA_HOME": str(toolkit),
        "HOROVOD_NCCL_HOME": nccl,
        "HOROVOD_NCCL_LINK": "SHARED",
    }
    set_by_user = {"HOROVOD_GPU_OPERATIONS": "NCCL", "HOROVOD_NCCL_HOME": "/opt/nccl", "PATH": f"{toolkit}/bin"}
    assert gpu_variables(set_by_user, packages, TORCH) == {"CUDA_HOME": str(toolkit), "HOROVOD_CUDA_HOME": str(toolkit)}


@pytest.mark.parametrize("operations", ["", "MPI"])
def test_the_user_may_have_none(toolkit: Path, packages: Path, operations: str) -> None:
    environ = {"CUDA_HOME": str(toolkit), "HOROVOD_GPU_OPERATIONS": operations}
    assert gpu_variables(environ, packages, TORCH) == {}


def test_built_for_the_cpu_where_something_lacks(toolkit: Path, packages: Path, tmp_path: Path) -> None:
    assert gpu_variables({"CUDA_HOME": "/nowhere"}, packages, TORCH) == {}
    assert gpu_variables({"CUDA_HOME": str(toolkit)}, tmp_path / "none", TORCH) == {}
    assert gpu_variables({"CUDA_HOME": str(toolkit)}, packages, {**TORCH, "tensorflow": "2.21.0"}) == {}


@pytest.mark.parametrize(
    ("home", "folder", "said"),
    [("/nowhere", "packages", "there is no nvcc"), ("cuda", "none", "there is no NCCL in ")],
)
def test_what_was_asked_for_and_lacks_is_told(
    toolkit: Path, packages: Path, tmp_path: Path, home: str, folder: str, said: str
) -> None:
    environ = {"HOROVOD_GPU_OPERATIONS": "NCCL", "CUDA_HOME": str(tmp_path / home)}
    with pytest.raises(UserError, match=f"^HOROVOD_GPU_OPERATIONS=NCCL: {said}"):
        gpu_variables(environ, tmp_path / folder, TORCH)


def test_what_the_user_names_is_not_replaced(toolkit: Path) -> None:
    assert cuda_home({"CUDA_HOME": "/nowhere", "PATH": f"{toolkit}/bin"}) is None
    assert cuda_home({"PATH": f"{toolkit}/bin"}) == toolkit


def test_a_script_called_nvcc_is_no_toolkit(toolkit: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "_USUAL_HOME", str(toolkit))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").write_text(f'#!/bin/sh\nexec {toolkit}/bin/nvcc "$@"\n')
    (tmp_path / "bin" / "nvcc").chmod(0o755)
    assert cuda_home({"PATH": f"{tmp_path}/bin"}) == toolkit


def test_the_headers_may_lie_where_conda_puts_them(toolkit: Path) -> None:
    target = toolkit / "targets" / "x86_64-linux"
    target.mkdir(parents=True)
    (toolkit / "include").rename(target / "include")
    assert cuda_home({"PATH": f"{toolkit}/bin"}) == toolkit


def test_the_linker_s_name(packages: Path) -> None:
    nccl = packages / "nvidia" / "nccl"
    name_for_the_linker(nccl)
    name_for_the_linker(nccl)
    assert (nccl / "lib" / "libnccl.so").readlink() == Path("libnccl.so.2")
