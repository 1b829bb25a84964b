"""Everything that decides what a build results in, and the key of the wheel cache made from it."""

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build.installed import installed_frameworks, python_abi
from hvd_imagenet.horovod_build.patch import digest
from hvd_imagenet.horovod_build.patches import PATCHES
from hvd_imagenet.horovod_build.source import SDIST_SHA256, VERSION
from hvd_imagenet.horovod_build.toolchain import Toolchain, last_line

# The instruction sets that Horovod's build turns on where the processor has them.
_ARCHITECTURE_FLAGS = ("avx", "f16c", "fma")

# What Horovod's build, cmake or the compiler read. Other variables (HOROVOD_CYCLE_TIME, …) matter only at run time.
_BUILD_VARIABLES = frozenset(
    [
        "AR",
        "CC",
        "CCL_CONFIGURATION",
        "CCL_ROOT",
        "CFLAGS",
        "CMAKE_PREFIX_PATH",
        "CPPFLAGS",
        "CUDACXX",
        "CUDAFLAGS",
        "CUDA_HOME",
        "CXX",
        "CXXFLAGS",
        "HOROVOD_ALLOW_MIXED_GPU_IMPL",
        "HOROVOD_CPU_OPERATIONS",
        "HOROVOD_DEBUG",
        "LDFLAGS",
        "MPI_HOME",
        "NVCC_PREPEND_FLAGS",
        "ROCM_HOME",
        "ROCM_PATH",
    ]
)
_BUILD_VARIABLE_PREFIXES = (
    "HOROVOD_BUILD_",
    "HOROVOD_CUDA_",
    "HOROVOD_GPU",
    "HOROVOD_NCCL_",
    "HOROVOD_ROCM_",
    "HOROVOD_WITH",
)
_LEFT_OUT_BY = {"torch": "HOROVOD_WITHOUT_PYTORCH", "tensorflow": "HOROVOD_WITHOUT_TENSORFLOW"}


@dataclass(frozen=True)
class BuildInputs:
    """What goes into a build.

    Attributes:
        horovod: version of the source distribution.
        sdist_sha256: its fingerprint.
        patches_sha256: fingerprint of the patches to what is compiled.
        python_patches_sha256: fingerprint of the patches to Python files.
        python: the binary interface of the interpreter.
        frameworks: (name, version) of each framework built for.
        compiler: first line of the compiler's `--version`.
        cmake: version of cmake.
        mpi: name and version of the MPI, or "".
        rpath: where the extensions look for libmpi, relative to themselves where it lies in the environment.
        architecture: machine and the instruction sets that the build turns on.
        environment: (name, value) of the variables set that a build reads, and the versions of nvcc and NCCL where
            they go into it.
    """

    horovod: str
    sdist_sha256: str
    patches_sha256: str
    python_patches_sha256: str
    python: str
    frameworks: tuple[tuple[str, str], ...]
    compiler: str
    cmake: str
    mpi: str
    rpath: tuple[str, ...]
    architecture: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]

    def key(self) -> str:
        """The name of the build in the wheel cache: 20 hexadecimal digits, another for any other input."""
        return _key(asdict(self))

    def compiled_key(self) -> str:
        """The same for all builds that differ in Python files alone, so that one can be made from another's wheel."""
        return _key({name: value for name, value in asdict(self).items() if name != "python_patches_sha256"})


def _key(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:20]


def is_build_variable(name: str) -> bool:
    """Whether an environment variable changes what a build results in.

    Args:
        name: of the variable.

    Example:
        >>> is_build_variable("HOROVOD_GPU_OPERATIONS"), is_build_variable("HOROVOD_CYCLE_TIME")
        (True, False)
    """
    return name in _BUILD_VARIABLES or name.startswith(_BUILD_VARIABLE_PREFIXES)


def requested_frameworks(environ: Mapping[str, str]) -> dict[str, str]:
    """The frameworks to build for: those installed, less those that HOROVOD_WITHOUT_… leaves out.

    Args:
        environ: environment variables.

    Returns:
        Name → version.

    Raises:
        UserError: there is none.
    """
    frameworks = {
        name: version for name, version in installed_frameworks().items() if environ.get(_LEFT_OUT_BY[name]) != "1"
    }
    if not frameworks:
        raise UserError(
            f"neither torch nor tensorflow is installed in {sys.prefix} (or HOROVOD_WITHOUT_… leaves it out); "
            f"install one first, e.g.: {sys.executable} -m pip install torch"
        )
    return frameworks


def gpu_versions(frameworks: Mapping[str, str], environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The versions of the CUDA tools that go into a build.

    Args:
        frameworks: name → version; a torch for CUDA has a local version like "+cu130".
        environ: environment variables.

    Returns:
        (name, version) of nvcc and NCCL; empty for a build that uses neither.
    """
    asked = any(environ.get(name) for name in environ if name.startswith("HOROVOD_GPU"))
    if not asked and "+cu" not in frameworks.get("torch", ""):
        return ()
    home = environ.get("HOROVOD_CUDA_HOME")
    nvcc = f"{home}/bin/nvcc" if home else "nvcc"
    versions = {"nvcc": last_line([nvcc, "--version"])}
    for folder in (environ.get("HOROVOD_NCCL_INCLUDE"), f"{environ.get('HOROVOD_NCCL_HOME', '')}/include"):
        header = Path(folder or "") / "nccl.h"
        if header.is_file():
            match = re.search(r"#define\s+NCCL_VERSION_CODE\s+(\d+)", header.read_text(errors="replace"))
            versions["nccl"] = match.group(1) if match else ""
            break
    return tuple(versions.items())


def _architecture() -> tuple[str, ...]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    flags = next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    return (platform.machine(), *(flag for flag in _ARCHITECTURE_FLAGS if flag in flags))


def relative_rpath(library_dirs: tuple[str, ...], prefix: Path, packages: Path) -> tuple[str, ...]:
    """Where an extension should look for libraries, such that the wheel fits any environment laid out alike.

    Args:
        library_dirs: absolute folders.
        prefix: root of the environment.
        packages: the environment's site-packages; extensions lie two folders below it.

    Returns:
        A folder within the environment relative to the extension, any other as it is.

    Example:
        >>> relative_rpath(("/e/lib", "/usr/lib/openmpi"), Path("/e"), Path("/e/lib/python3.11/site-packages"))
        ('$ORIGIN/../../../..', '/usr/lib/openmpi')
    """
    extension_folder = packages / "horovod" / "torch"
    return tuple(
        f"$ORIGIN/{os.path.relpath(folder, extension_folder)}" if Path(folder).is_relative_to(prefix) else folder
        for folder in library_dirs
    )


def gather_inputs(toolchain: Toolchain, packages: Path, environ: Mapping[str, str] | None = None) -> BuildInputs:
    """Everything that decides what a build with these tools results in.

    Args:
        toolchain: the tools.
        packages: the environment's folder of packages (site-packages).
        environ: environment variables; those of the process if None.

    Returns:
        The inputs; equal inputs give equal keys.

    Raises:
        UserError: no framework is installed.
    """
    environ = os.environ if environ is None else environ
    frameworks = requested_frameworks(environ)
    variables = sorted((name, value) for name, value in environ.items() if value and is_build_variable(name))
    return BuildInputs(
        horovod=VERSION,
        sdist_sha256=SDIST_SHA256,
        patches_sha256=digest(PATCHES, compiled=True),
        python_patches_sha256=digest(PATCHES, compiled=False),
        python=python_abi(),
        frameworks=tuple(frameworks.items()),
        compiler=toolchain.cxx_version,
        cmake=toolchain.cmake_version,
        mpi=toolchain.mpi_version,
        rpath=relative_rpath(toolchain.mpi_library_dirs, Path(sys.prefix), packages),
        architecture=_architecture(),
        environment=(*variables, *gpu_versions(frameworks, environ)),
    )
