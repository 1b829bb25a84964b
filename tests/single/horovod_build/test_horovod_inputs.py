from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build.inputs import BuildInputs, gather_inputs, is_build_variable, requested_frameworks
from hvd_imagenet.horovod_build.toolchain import Toolchain

INPUTS = BuildInputs(
    horovod="0.28.1",
    sdist_sha256="aa",
    patches_sha256="bb",
    python="cpython-311",
    frameworks=(("torch", "2.13.0"),),
    compiler="g++ 12",
    cmake="3.31",
    mpi="Open MPI 5.0.11",
    rpath=("$ORIGIN/..",),
    architecture=("x86_64", "avx"),
    environment=(("CXXFLAGS", "-O2"),),
)
TOOLS = Toolchain("/c++", "g++ 12", "/cmake", "3.31", "/ninja", "/mpicxx", "Open MPI 5.0.11", ("/mpi/lib",))


@pytest.mark.parametrize("field", [field.name for field in fields(BuildInputs)])
def test_every_input_changes_the_key(field: str) -> None:
    value = getattr(INPUTS, field)
    other = (*value, ("x", "y")) if isinstance(value, tuple) else value + "x"
    assert replace(INPUTS, **{field: other}).key() != INPUTS.key()


def test_equal_inputs_have_equal_keys() -> None:
    assert replace(INPUTS).key() == INPUTS.key()
    assert len(INPUTS.key()) == 20


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


def test_inputs_hold_the_variables_that_are_set(site: Any) -> None:
    site.add("torch", "2.13.0")
    environ = {"HOROVOD_GPU_OPERATIONS": "NCCL", "HOROVOD_CYCLE_TIME": "1", "CXXFLAGS": "", "CUDA_HOME": "/cuda"}
    inputs = gather_inputs(TOOLS, Path("/e/lib/python3.11/site-packages"), environ)
    assert inputs.environment == (("CUDA_HOME", "/cuda"), ("HOROVOD_GPU_OPERATIONS", "NCCL"))
    assert inputs.frameworks == (("torch", "2.13.0"),)
    assert inputs.rpath == ("/mpi/lib",)


def test_frameworks_can_be_left_out(site: Any) -> None:
    site.add("torch", "2.13.0")
    site.add("tensorflow", "2.21.0")
    assert requested_frameworks({"HOROVOD_WITHOUT_TENSORFLOW": "1"}) == {"torch": "2.13.0"}
    with pytest.raises(UserError, match=r"neither torch nor tensorflow is installed in .* pip install torch$"):
        requested_frameworks({"HOROVOD_WITHOUT_TENSORFLOW": "1", "HOROVOD_WITHOUT_PYTORCH": "1"})


def test_no_framework_at_all_is_an_error(site: Any) -> None:
    with pytest.raises(UserError, match="neither torch nor tensorflow"):
        requested_frameworks({})
