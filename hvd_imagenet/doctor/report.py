"""What a host says of itself, for comparison with the others.

Run as a program on a host (`python -m hvd_imagenet.doctor.report [DATA]`), it prints its report on one line, and then
the time for each line that it reads.
"""

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

import hvd_imagenet
from hvd_imagenet.data.listing import list_dataset
from hvd_imagenet.doctor.limits import open_files, tasks
from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build.doctor import examine
from hvd_imagenet.horovod_build.doctor_host import host_address, interfaces, shared_memory_mb
from hvd_imagenet.horovod_build.finding import Finding
from hvd_imagenet.horovod_build.installed import installed_frameworks, read_build_info
from hvd_imagenet.horovod_build.toolchain import mpi_version
from hvd_imagenet.launcher.local import find_mpirun
from hvd_imagenet.launcher.machine import Machine, gpu_listing, gpu_names, this_machine

# Before the report, so that what a login shell prints is not taken for it.
MARK = "hvd-imagenet report: "
PACKAGES = ("numpy", "keras", "horovod", "mpi4py")
_NCCL_PREFIX = "nvidia-nccl-"
_MB = 10**6


@dataclass(frozen=True)
class Data:
    """The images that a host sees.

    Attributes:
        train: number of training images.
        validation: number of validation images.
        fingerprint: sha256 of both fingerprints, in hexadecimal.
        problem: why they cannot be read, with the remedy; empty if they can.
    """

    train: int = 0
    validation: int = 0
    fingerprint: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Report:
    """What a host says of itself.

    Attributes:
        node: the name that it has for itself.
        versions: name → version, of what must be the same on all hosts.
        machine: its cores and GPUs.
        gpus: the names of its GPUs.
        memory_mb: main memory that is free.
        shared_memory_mb: size of /dev/shm; None where there is none.
        open_files: how many files a process may have open.
        tasks: how many processes and threads there may be.
        addresses: IPv4 address of each network interface that is up.
        name_address: IPv4 address that its own name resolves to there; None for none.
        data: the images; None where none were asked for.
        findings: what it finds out about itself.
    """

    node: str
    versions: Mapping[str, str]
    machine: Machine
    gpus: tuple[str, ...]
    memory_mb: int
    shared_memory_mb: int | None
    open_files: int
    tasks: int
    addresses: Mapping[str, str]
    name_address: str | None
    data: Data | None = None
    findings: tuple[Finding, ...] = ()

    def as_json(self) -> str:
        """The report on one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """The report read back.

        Raises:
            ValueError: the text is not a report of this version.

        Example:
            >>> report = look()
            >>> Report.from_json(report.as_json()) == report
            True
        """
        try:
            report = cls(**json.loads(text))
            return replace(
                report,
                machine=Machine(*report.machine),
                gpus=tuple(report.gpus),
                data=None if report.data is None else Data(**_fields(report.data)),
                findings=tuple(Finding(**_fields(finding)) for finding in report.findings),
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"text must be a report of hvd_imagenet {hvd_imagenet.__version__}, {error}") from error


def _fields(value: Any) -> dict[str, Any]:
    return dict(value)


def look(data: Path | None = None) -> Report:
    """What this host says of itself, without the findings of `horovod_build.doctor`; GPUs that are silent are one.

    Args:
        data: the folder of images to look for; None for none.

    Returns:
        The report.

    Example:
        >>> look().versions["hvd_imagenet"] == hvd_imagenet.__version__
        True
    """
    listing = ""
    silent: tuple[Finding, ...] = ()
    try:
        listing = gpu_listing()
    except UserError as error:  # the host's other answers, and the other hosts', are no worse for it
        message, _, remedy = str(error).partition("; ")
        silent = (Finding("gpus", "error", message, remedy),)
    return Report(
        node=os.uname().nodename,
        versions=versions(),
        machine=this_machine(listing),
        gpus=tuple(gpu_names(listing)),
        memory_mb=psutil.virtual_memory().available // _MB,
        shared_memory_mb=shared_memory_mb(),
        open_files=open_files(),
        tasks=tasks(),
        addresses=interfaces(),
        name_address=host_address(),
        data=None if data is None else look_at_data(data),
        findings=silent,
    )


def versions() -> dict[str, str]:
    """The versions of what must be the same on all hosts, without importing it.

    Returns:
        Name → version; "none" for what is not installed. `code` is a digest of this package's files.

    Example:
        >>> sorted(versions())  # doctest: +NORMALIZE_WHITESPACE
        ['code', 'horovod', 'horovod build', 'hvd_imagenet', 'keras', 'mpi', 'mpi4py', 'nccl', 'numpy', 'python',
         'tensorflow', 'torch']
    """
    frameworks = installed_frameworks()
    build = read_build_info()
    return {
        "hvd_imagenet": hvd_imagenet.__version__,
        "code": _digest_of_code(),
        "python": platform.python_version(),
        "torch": frameworks.get("torch", "none"),
        "tensorflow": frameworks.get("tensorflow", "none"),
        **{name: _version(name) for name in PACKAGES},
        "horovod build": "none" if build is None else build.key[:12],
        "mpi": _mpi(),
        "nccl": _nccl(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _mpi() -> str:
    try:
        return mpi_version(find_mpirun()) or "none"
    except UserError:
        return "none"


def _nccl() -> str:
    """The version of the NCCL that torch's wheels bring: nvidia-nccl-cu12, nvidia-nccl-cu13, …."""
    found = {
        each.metadata["Name"]: each.version
        for each in metadata.distributions()
        if (each.metadata["Name"] or "").startswith(_NCCL_PREFIX)
    }
    return ", ".join(found[name] for name in sorted(found)) or "none"


def _digest_of_code() -> str:
    root = Path(hvd_imagenet.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def look_at_data(data: Path) -> Data:
    """Lists the images of a folder, as training would.

    Args:
        data: as `--data` names it.

    Returns:
        What is there, or why it cannot be read.

    Example:
        >>> look_at_data(Path("/nowhere")).problem.split(";")[0]
        'data folder /nowhere: no such folder'
    """
    try:
        train, validation = list_dataset(data)
    except UserError as error:
        return Data(problem=str(error))
    both = train.fingerprint() + validation.fingerprint()
    return Data(len(train), len(validation), hashlib.sha256(both.encode()).hexdigest())


def main() -> None:
    """Prints the report, then the time for each line that comes."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    report = look(data)
    known = {finding.name for finding in report.findings}
    others = (finding for finding in examine(report.gpus) if finding.name not in known)
    report = replace(report, findings=(*report.findings, *others))
    print(f"{MARK}{report.as_json()}", flush=True)
    for _ in sys.stdin:
        print(repr(time.time()), flush=True)


if __name__ == "__main__":
    main()
