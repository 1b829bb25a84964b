"""What is installed: the frameworks, Horovod, and what this Horovod was built for. Imports none of them."""

import json
import platform
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from hvd_imagenet.errors import UserError

REMEDY = "hvd-imagenet install-horovod"
BUILD_INFO_NAME = "hvd_imagenet_build.json"

# The names under which a framework's package is known to pip.
DISTRIBUTIONS = {
    "torch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-rocm", "tf-nightly", "tf-nightly-cpu"),
}
_EXTENSIONS = {"torch": "torch/mpi_lib_v2", "tensorflow": "tensorflow/mpi_lib"}
_ALIASES = {"keras": "tensorflow"}


@dataclass(frozen=True)
class BuildInfo:
    """The record that a build leaves inside the installed package.

    Attributes:
        key: the build's key in the wheel cache.
        frameworks: name → version that the build is for, of "torch" and "tensorflow".
        mpi: name and version of the MPI built with, or "" for none.
        patches: names of the patches, in the order in which they were applied.
        inputs: everything that the key was made of.
    """

    key: str
    frameworks: Mapping[str, str]
    mpi: str = ""
    patches: tuple[str, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        """The record as it is written into the package."""
        content = {
            "key": self.key,
            "frameworks": dict(self.frameworks),
            "mpi": self.mpi,
            "patches": list(self.patches),
            "inputs": dict(self.inputs),
        }
        return json.dumps(content, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "BuildInfo":
        """The record read back; a ValueError or KeyError where the text is not one."""
        content = json.loads(text)
        return cls(
            key=content["key"],
            frameworks=content["frameworks"],
            mpi=content["mpi"],
            patches=tuple(content["patches"]),
            inputs=content["inputs"],
        )


def framework_version(framework: str) -> str | None:
    """The installed version of a framework, from its package's metadata.

    Args:
        framework: "torch" or "tensorflow".

    Returns:
        The version with its local part ("2.13.0+cpu"), or None where the framework is not installed.
    """
    for name in DISTRIBUTIONS[framework]:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def installed_frameworks() -> dict[str, str]:
    """The frameworks that are installed, of those that Horovod is built for.

    Returns:
        Name → version, in a fixed order.
    """
    versions = ((name, framework_version(name)) for name in DISTRIBUTIONS)
    return {name: version for name, version in versions if version is not None}


def horovod_version() -> str | None:
    """The version of the installed Horovod, or None."""
    try:
        return metadata.version("horovod")
    except metadata.PackageNotFoundError:
        return None


def _package_folder() -> Path | None:
    try:
        return Path(str(metadata.distribution("horovod").locate_file("horovod")))
    except metadata.PackageNotFoundError:
        return None


def read_build_info() -> BuildInfo | None:
    """The record of the installed Horovod, or None where there is none that can be read."""
    folder = _package_folder()
    if folder is None:
        return None
    try:
        return BuildInfo.from_json((folder / BUILD_INFO_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def has_extension(framework: str) -> bool:
    """Whether the installed Horovod holds the compiled extension for a framework."""
    folder = _package_folder()
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return folder is not None and (folder / (_EXTENSIONS[framework] + suffix)).is_file()


def check_installed(framework: str) -> None:
    """Raises where Horovod is missing or does not fit the framework that is installed; imports neither.

    Args:
        framework: "torch", "tensorflow", or "keras", which runs on tensorflow here.

    Raises:
        UserError: names both versions and the command that mends it.

    Example:
        >>> check_installed("mxnet")
        Traceback (most recent call last):
        ...
        ValueError: framework must be torch, tensorflow or keras, got 'mxnet'
    """
    name = _ALIASES.get(framework, framework)
    if name not in DISTRIBUTIONS:
        raise ValueError(f"framework must be torch, tensorflow or keras, got {framework!r}")
    version = framework_version(name)
    if version is None:
        raise UserError(f"{name} is not installed in this environment; install it, then run: {REMEDY}")
    if horovod_version() is None:
        raise UserError(f"Horovod is not installed (for {name} {version}); run: {REMEDY}")
    info = read_build_info()
    if info is None:
        raise UserError(
            f"the installed Horovod {horovod_version()} has no record of what it was built for, so it was not built "
            f"for {name} {version} by this program; run: {REMEDY}"
        )
    built_for = info.frameworks.get(name)
    if built_for is None or not has_extension(name):
        others = ", ".join(f"{other} {its}" for other, its in info.frameworks.items()) or "no framework"
        raise UserError(f"the installed Horovod was built for {others}, not for {name} {version}; run: {REMEDY}")
    if built_for != version:
        raise UserError(
            f"the installed Horovod was built for {name} {built_for}, but {name} {version} is installed; run: {REMEDY}"
        )


def python_abi() -> str:
    """The binary interface that the extensions are built for, e.g. "cpython-311-x86_64-linux-gnu"."""
    return str(sysconfig.get_config_var("SOABI") or f"{platform.python_implementation()}-{platform.python_version()}")
