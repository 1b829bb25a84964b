"""The build's process: its environment, its record, and how it fails. The compiler is left out."""

import json
from pathlib import Path

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build.builder import build_environment, build_wheel, default_jobs
from hvd_imagenet.horovod_build.inputs import BuildInputs
from hvd_imagenet.horovod_build.patches import PATCHES
from hvd_imagenet.horovod_build.progress import BuildProgress
from hvd_imagenet.horovod_build.toolchain import Toolchain

# A setup.py that stands for Horovod's: it does what its first word says, and shows what it was given.
SETUP = """
import os, pathlib, sys
assert sys.argv[1:] == ["-q", "bdist_wheel", "--dist-dir", "dist"], sys.argv
print("[1/2] Building a.cc.o", flush=True)
if ACTION == "fail":
    print("a.cc:7:9: error: 'x' was not declared in this scope")
    print("\\n".join(f"note {n}" for n in range(1000)))
    sys.exit(1)
if ACTION == "fail to configure":
    print("CMake Error at CMakeLists.txt:15 (project):\\n  The C++ compiler is not able to compile.\\n")
    sys.exit(1)
pathlib.Path("dist").mkdir()
if ACTION == "succeed":
    pathlib.Path("dist/horovod-0.28.1-py3-none-any.whl").write_text(os.environ["CMAKE_BUILD_PARALLEL_LEVEL"])
"""


def sources(folder: Path, action: str) -> Path:
    root = folder / "horovod-0.28.1"
    root.mkdir()
    (root / "setup.py").write_text(f"ACTION = {action!r}\n{SETUP}")
    (root / "setup.cfg").write_text("[egg_info]\ntag_build =\n")
    return root


def test_the_wheel_the_log_and_the_record(
    build_tools: Toolchain, build_inputs: BuildInputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, log = sources(tmp_path, "succeed"), tmp_path / "logs" / "build.log"
    wheel = build_wheel(root, build_tools, build_inputs, 3, log, BuildProgress())
    assert wheel.read_text() == "3"
    assert "[1/2] Building a.cc.o" in log.read_text()
    assert "compiling:  50 % (1 of 2 steps" in capsys.readouterr().out
    record = json.loads((root / "build" / "lib" / "horovod" / "hvd_imagenet_build.json").read_text())
    assert record["key"] == build_inputs.key()
    assert record["frameworks"] == {"torch": "2.13.0"}
    assert record["patches"] == [patch.name for patch in PATCHES]
    assert record["inputs"]["cmake"] == "3.31"
    assert "build_lib = build/lib" in (root / "setup.cfg").read_text()


def test_a_failure_shows_the_compilers_words_and_no_more(
    build_tools: Toolchain, build_inputs: BuildInputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "build.log"
    with pytest.raises(UserError) as raised:
        build_wheel(sources(tmp_path, "fail"), build_tools, build_inputs, 1, log, BuildProgress())
    assert str(raised.value) == f"building Horovod failed: see the lines above; log: {log}"
    shown = capsys.readouterr().err
    assert shown == "  a.cc:7:9: error: 'x' was not declared in this scope\n"
    assert "note 999" in log.read_text()


def test_a_failure_of_cmake_shows_where_and_what(
    build_tools: Toolchain, build_inputs: BuildInputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = sources(tmp_path, "fail to configure")
    with pytest.raises(UserError, match="building Horovod failed"):
        build_wheel(root, build_tools, build_inputs, 1, tmp_path / "build.log", BuildProgress())
    shown = capsys.readouterr().err
    assert shown == "  CMake Error at CMakeLists.txt:15 (project):\n  The C++ compiler is not able to compile.\n"


def test_a_build_without_a_wheel_has_failed(build_tools: Toolchain, build_inputs: BuildInputs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="building Horovod failed"):
        build_wheel(sources(tmp_path, "nothing"), build_tools, build_inputs, 1, tmp_path / "build.log", BuildProgress())


def test_the_environment_of_a_build(build_tools: Toolchain, build_inputs: BuildInputs) -> None:
    made = build_environment(
        build_tools,
        build_inputs,
        2,
        {"PATH": "/usr/bin", "HOROVOD_GPU_OPERATIONS": "NCCL", "HOROVOD_WITHOUT_PYTORCH": "1"},
    )
    assert made["HOROVOD_GPU_OPERATIONS"] == "NCCL"
    assert made["HOROVOD_WITH_PYTORCH"] == made["HOROVOD_WITHOUT_TENSORFLOW"] == made["HOROVOD_WITHOUT_MXNET"] == "1"
    assert made["HOROVOD_WITH_MPI"] == made["HOROVOD_WITH_GLOO"] == "1"
    assert not {"HOROVOD_WITHOUT_PYTORCH", "HOROVOD_WITH_TENSORFLOW", "HOROVOD_WITH_NVTX"} & set(made)
    assert made["PATH"] == "/:/usr/bin"
    assert (made["MAKEFLAGS"], made["CMAKE_BUILD_PARALLEL_LEVEL"]) == ("-j2", "2")
    assert made["NINJA_STATUS"] == "[%f/%t] "
    assert made["HOROVOD_BUILD_RPATH"] == "$ORIGIN/.."


def test_what_was_left_out_stays_out(build_tools: Toolchain, build_inputs: BuildInputs) -> None:
    made = build_environment(build_tools, build_inputs, 1, {"HOROVOD_WITHOUT_MPI": "1", "HOROVOD_WITH_NVTX": "1"})
    assert "HOROVOD_WITH_MPI" not in made
    assert "HOROVOD_WITHOUT_NVTX" not in made


def test_at_least_one_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvd_imagenet.horovod_build.builder._MEMORY_A_JOB_BYTES", 1e18)
    assert default_jobs() == 1
