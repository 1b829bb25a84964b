"""How many cores and GPUs the processes of this machine may use."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hvd_imagenet import control_groups
from hvd_imagenet.errors import UserError

_DRIVER_TIMEOUT_S = 15
_CPU_FOLDER = Path("/sys/devices/system/cpu")


class Machine(NamedTuple):
    """What the processes on this machine share.

    Args:
        cores: physical cores that this process may run on, or whose time its container gets where that is less.
        gpus: NVIDIA GPUs that this process sees.
        whole: whether the process may run on every core of the machine, all the time; only then can mpirun bind
            processes to cores, since it counts from the first core and disregards the mask that it was started with.
    """

    cores: int
    gpus: int
    whole: bool

    def binds(self, processes: int) -> bool:
        """Whether each of so many processes can have cores of its own.

        Example:
            >>> Machine(cores=2, gpus=0, whole=True).binds(2), Machine(cores=2, gpus=0, whole=True).binds(3)
            (True, False)
        """
        return self.whole and processes <= self.cores


def physical_cores(processors: set[int], folder: Path = _CPU_FOLDER) -> int:
    """The number of cores behind some logical processors; the hardware threads of one core count once.

    Args:
        processors: numbers of logical processors.
        folder: where the kernel describes them.

    Returns:
        At least 1 for a set that is not empty.

    Example:
        >>> physical_cores({0, 1, 2}, folder=Path("/nonexistent"))
        3
    """
    cores = set()
    for processor in processors:
        siblings = folder / f"cpu{processor}" / "topology" / "thread_siblings_list"
        cores.add(siblings.read_text().strip() if siblings.is_file() else str(processor))
    return len(cores)


def visible_gpus(listing: str, chosen: str | None) -> int:
    r"""The number of GPUs that a program started now would see.

    Args:
        listing: what `nvidia-smi -L` prints.
        chosen: the value of CUDA_VISIBLE_DEVICES, None if unset.

    Returns:
        0 or more.

    Example:
        >>> visible_gpus("GPU 0: A\nGPU 1: B\n  MIG 1g.10gb\n", chosen=None)
        2
        >>> visible_gpus("GPU 0: A\nGPU 1: B\n", chosen="1")
        1
    """
    present = sum(line.startswith("GPU ") for line in listing.splitlines())
    if chosen is None:
        return present
    return min(present, len([device for device in chosen.split(",") if device.strip() not in ("", "-1")]))


def default_processes(machine: Machine) -> int:
    """The number of processes where the user names none: one a GPU, or one a core where there is no GPU.

    Args:
        machine: what this machine offers.

    Returns:
        At least 1.

    Example:
        >>> default_processes(Machine(cores=64, gpus=8, whole=True))
        8
    """
    return machine.gpus or machine.cores


def gpu_names(listing: str) -> list[str]:
    r"""The names of the GPUs of a machine.

    Args:
        listing: what `nvidia-smi -L` prints.

    Returns:
        One a GPU.

    Example:
        >>> gpu_names("GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 1g.18gb (UUID: MIG-1)\nGPU 1: NVIDIA A100\n")
        ['NVIDIA H200', 'NVIDIA A100']
    """
    return re.findall(r"^GPU \d+: (.*?)(?: \(UUID.*)?$", listing, re.MULTILINE)


def this_machine(listing: str | None = None) -> Machine:
    """Asks the kernel for the cores, and nvidia-smi, where there is one, for the GPUs.

    Args:
        listing: of `gpu_listing`, where it has been asked already.

    Returns:
        What this process may use, not what the machine has.

    Raises:
        UserError: the GPUs' driver does not answer.

    Example:
        >>> this_machine().cores >= 1
        True
    """
    allowed = os.sched_getaffinity(0)
    listing = gpu_listing() if listing is None else listing
    cores, quota = physical_cores(allowed), control_groups.cpus()
    return Machine(
        cores=cores if quota >= cores else max(1, int(quota)),
        gpus=visible_gpus(listing, os.environ.get("CUDA_VISIBLE_DEVICES")),
        whole=len(allowed) == os.cpu_count() and quota >= cores,
    )


def crowding(processes: int, machine: Machine) -> Iterator[str]:
    """What there is to be said of more processes on a host than it has cores or GPUs.

    Args:
        processes: on the fullest host.
        machine: what they share.

    Example:
        >>> list(crowding(3, Machine(cores=2, gpus=0, whole=True)))
        ['warning: 3 processes share 2 cores: each is slower than it would be alone']
    """
    if processes > machine.cores:
        yield (f"warning: {processes} processes share {machine.cores} cores: each is slower than it would be alone")
    if 0 < machine.gpus < processes:
        gpus = f"{machine.gpus} GPU{'s' * (machine.gpus > 1)}"
        yield (
            f"warning: {processes} processes on a host with {gpus}: NCCL wants one for each; lower -np, or use the CPU "
            "with CUDA_VISIBLE_DEVICES="
        )


def gpu_listing() -> str:
    """What `nvidia-smi -L` prints; empty where there is no driver, or CUDA_VISIBLE_DEVICES hides all GPUs.

    Raises:
        UserError: the driver does not answer.
    """
    nvidia_smi = shutil.which("nvidia-smi")
    if nvidia_smi is None or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return ""
    command = [nvidia_smi, "-L"]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_DRIVER_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"nvidia-smi -L: no answer within {_DRIVER_TIMEOUT_S} s; look for the driver's fault in dmesg, or take the "
            "CPU: CUDA_VISIBLE_DEVICES="
        ) from error
    return answer.stdout if answer.returncode == 0 else ""
