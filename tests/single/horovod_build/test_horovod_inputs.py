from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build.inputs import (
    BuildInputs,
    gather_inputs,
    gpu_versions,
    is_build_variable,
    requested_frameworks,
)
from hvd_imagenet.horovod_build.toolchain import Toolchain


@pytest.mark.parametrize("field", [field.name for field in fields(BuildInputs)])
def test_every_input_changes_the_key(build_inputs: BuildInputs, field: str) -> None:
    value = getattr(build_inputs, field)
    other: Any = (*value, ("x", "y")) if isinstance(value, tuple) else value + "x"
    assert replace(build_inputs, **{field: other}).key() != build_inputs.key()


@pytest.mark.parametrize("field", [field.name for field in fields(BuildInputs)])
def test_python_patches_alone_leave_what_was_compiled(build_inputs: BuildInputs, field: str) -> None:
    value = getattr(build_inputs, field)
    other: Any = (*value, ("x", "y")) if isinstance(value, tuple) else value + "x"
    same = replace(build_inputs, **{field: other}).compiled_key() == build_inputs.compiled_key()
    assert same is (field == "python_patches_sha256")


def test_equal_inputs_have_equal_keys(build_inputs: BuildInputs) -> None:
    assert replace(build_inputs).key() == build_inputs.key()
    assert len(build_inputs.key()) == 20


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("HOROVOD_GPU_OPERATIONS", True),
        ("HOROVOD_NCCL_HOME", True),
        ("HOROVOD_WITHOUT_GLOO", True),
        ("HOROVOD_BUILD_ARCH_FLAGS", True),
        ("HOROVOD_CPU_OPERATIONS", True),
        ("CXXFLAGS", True),
        ("CUDA_HOME", True),
        ("HOROVOD_CYCLE_TIME", False),
        ("HOROVOD_TIMELINE", False),
        ("PATH", False),
    ],
)
def test_which_variables_count(name: str, counts: bool) -> None:
    assert is_build_variable(name) is counts


def test_inputs_hold_the_variables_that_are_set(site: Any, build_tools: Toolchain) -> None:
    site.add("torch", "2.13.0")
    environ = {"HOROVOD_WITHOUT_GLOO": "1", "HOROVOD_CYCLE_TIME": "1", "CXXFLAGS": "", "CUDA_HOME": "/cuda"}
    inputs = gather_inputs(build_tools, Path("/e/lib/python3.11/site-packages"), environ)
    assert inputs.environment == (("CUDA_HOME", "/cuda"), ("HOROVOD_WITHOUT_GLOO", "1"))
    assert inputs.frameworks == (("torch", "2.13.0"),)
    assert inputs.rpath == ("/mpi/lib",)


def test_the_versions_of_cuda_and_nccl_count_where_they_go_in(tmp_path: Path) -> None:
    cuda, nccl = tmp_path / "cuda", tmp_path / "nccl"
    (cuda / "bin").mkdir(parents=True)
    (cuda / "bin" / "nvcc").write_text("#!/bin/sh\necho NVIDIA\necho 'Build cuda_13.0'\n")
    (cuda / "bin" / "nvcc").chmod(0o755)
    (nccl / "include").mkdir(parents=True)
    (nccl / "include" / "nccl.h").write_text("#define NCCL_MAJOR 2\n#define NCCL_VERSION_CODE 22703\n")
    environ = {"HOROVOD_CUDA_HOME": str(cuda), "HOROVOD_NCCL_HOME": str(nccl)}
    expected = (("nvcc", "Build cuda_13.0"), ("nccl", "22703"))
    assert gpu_versions({"torch": "2.13.0+cu130"}, environ) == expected
    assert gpu_versions({"torch": "2.13.0"}, {**environ, "HOROVOD_GPU_OPERATIONS": "NCCL"}) == expected
    assert gpu_versions({"torch": "2.13.0+cpu"}, environ) == ()


def test_frameworks_can_be_left_out(site: Any) -> None:
    site.add("torch", "2.13.0")
    site.add("tensorflow", "2.21.0")
    assert requested_frameworks({"HOROVOD_WITHOUT_TENSORFLOW": "1"}) == {"torch": "2.13.0"}
    with pytest.raises(UserError, match=r"neither torch nor tensorflow is installed in .* pip install torch$"):
        requested_frameworks({"HOROVOD_WITHOUT_TENSORFLOW": "1", "HOROVOD_WITHOUT_PYTORCH": "1"})


def test_no_framework_at_all_is_an_error(site: Any) -> None:
    with pytest.raises(UserError, match="neither torch nor tensorflow"):
        requested_frameworks({})
