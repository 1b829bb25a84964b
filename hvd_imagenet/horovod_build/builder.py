"""Builds the wheel of a patched Horovod."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import psutil

from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build.failure import complaints, remedy
from hvd_imagenet.horovod_build.inputs import BuildInputs
from hvd_imagenet.horovod_build.installed import BUILD_INFO_NAME, BuildInfo
from hvd_imagenet.horovod_build.patches import PATCHES
from hvd_imagenet.horovod_build.progress import BuildProgress
from hvd_imagenet.horovod_build.toolchain import Toolchain

# The largest file takes 1.3 GB in g++ 12; a job less is better than a killed compiler.
_MEMORY_A_JOB_BYTES = 1.5e9
_UPSTREAM_NAMES = {"torch": "PYTORCH", "tensorflow": "TENSORFLOW"}
_LINES_KEPT = 20_000

_SETTINGS = {
    "HOROVOD_WITHOUT_MXNET": "1",
    "HOROVOD_LOCAL_VERSION": "hvdimagenet",
    "CMAKE_GENERATOR": "Ninja",
    # The progress and the complaints are read from lines in this form and this language.
    "NINJA_STATUS": "[%f/%t] ",
    "LC_ALL": "C.UTF-8",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def default_jobs() -> int:
    """How many files to compile at once: one for each core, fewer where memory is short."""
    by_memory = int(psutil.virtual_memory().available / _MEMORY_A_JOB_BYTES)
    return max(1, min(len(os.sched_getaffinity(0)), by_memory))


def build_environment(
    toolchain: Toolchain, inputs: BuildInputs, jobs: int, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment variables of a build.

    Args:
        toolchain: the tools.
        inputs: what to build for.
        jobs: how many files to compile at once.
        environ: variables to start from; those of the process if None.

    Returns:
        A new mapping, to be given to the build's process.
    """
    made = dict(os.environ if environ is None else environ)
    wanted = dict(inputs.frameworks)
    folders = [str(Path(tool).parent) for tool in (toolchain.mpicxx, toolchain.cmake, toolchain.ninja) if tool]
    made["PATH"] = os.pathsep.join([*dict.fromkeys(folders), made.get("PATH", os.defpath)])
    for name, upstream in _UPSTREAM_NAMES.items():
        made.pop(f"HOROVOD_WITH_{upstream}", None)
        made.pop(f"HOROVOD_WITHOUT_{upstream}", None)
        made[f"HOROVOD_WITH_{upstream}" if name in wanted else f"HOROVOD_WITHOUT_{upstream}"] = "1"
    for name in ("MPI", "GLOO"):
        if made.get(f"HOROVOD_WITHOUT_{name}") != "1":
            made[f"HOROVOD_WITH_{name}"] = "1"
    # NVTX is a profiler's interface to CUDA; without CUDA cmake only looks for it in vain.
    if made.get("HOROVOD_WITH_NVTX") != "1":
        made["HOROVOD_WITHOUT_NVTX"] = "1"
    return made | {
        **_SETTINGS,
        "CXX": toolchain.cxx,
        "HOROVOD_CMAKE": toolchain.cmake,
        "HOROVOD_BUILD_RPATH": ";".join(inputs.rpath),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
        # Horovod's setup.py adds -j8 unless this is set; ninja itself does not read it.
        "MAKEFLAGS": f"-j{jobs}",
    }


def build_info(inputs: BuildInputs) -> BuildInfo:
    """The record that a build with these inputs leaves inside the package."""
    return BuildInfo(
        key=inputs.key(),
        frameworks=dict(inputs.frameworks),
        mpi=inputs.mpi,
        patches=tuple(patch.name for patch in PATCHES),
        inputs=vars(inputs),
    )


def _place_build_info(sources: Path, inputs: BuildInputs) -> None:
    """Puts the record of the build where setup.py collects what goes into the wheel."""
    package = sources / "build" / "lib" / "horovod"
    package.mkdir(parents=True)
    (package / BUILD_INFO_NAME).write_text(build_info(inputs).as_json(), encoding="utf-8")
    with (sources / "setup.cfg").open("a", encoding="utf-8") as file:
        file.write("\n[build]\nbuild_lib = build/lib\n")


def _run_logged(command: list[str], sources: Path, environ: dict[str, str], log: Path, progress: BuildProgress) -> int:
    """Runs the build; each line goes to the log, the steps to the progress. Returns the exit status."""
    with log.open("w", encoding="utf-8", errors="replace") as file:
        process = subprocess.Popen(
            command,
            cwd=sources,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                progress.line(line)
        except BaseException:
            process.terminate()
            raise
        finally:
            progress.close()
            status = process.wait()
    return status


def _raise_failure(log: Path) -> None:
    with log.open(encoding="utf-8", errors="replace") as file:
        found = complaints(list(deque(file, maxlen=_LINES_KEPT)))
    for line in found:
        print(f"  {line}", file=sys.stderr)
    raise UserError(f"building Horovod failed: {remedy(found)}; log: {log}")


def build_wheel(
    sources: Path, toolchain: Toolchain, inputs: BuildInputs, jobs: int, log: Path, progress: BuildProgress,
    environ: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """Builds the wheel.

    Args:
        sources: root of the patched sources; the build happens in it.
        toolchain: the tools.
        inputs: what to build for.
        jobs: how many files to compile at once.
        log: file for the whole output of the build.
        progress: told of every line.
        environ: variables to start from; those of the process if None.

    Returns:
        The path of the wheel, within the sources.

    Raises:
        UserError: the build failed; the compiler's first complaints have been written to standard error.
    """
    _place_build_info(sources, inputs)
    log.parent.mkdir(parents=True, exist_ok=True)
    # With -q, setup.py neither fetches its own requirements nor hands make's VERBOSE=1 to ninja.
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", "dist"]
    status = _run_logged(command, sources, build_environment(toolchain, inputs, jobs, environ), log, progress)
    wheels = sorted((sources / "dist").glob("horovod-*.whl"))
    if status != 0 or len(wheels) != 1:
        _raise_failure(log)
    return wheels[0]
