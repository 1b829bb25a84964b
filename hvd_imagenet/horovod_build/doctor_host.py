"""What `doctor` finds out about the host: its name, its interfaces, its cores, GPUs and memory."""

import ipaddress
import os
import resource
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from hvd_imagenet.horovod_build.finding import Finding
from hvd_imagenet.horovod_build.installed import framework_version, read_build_info

_MB = 10**6
_MPI_INTERFACES = "OMPI_MCA_btl_tcp_if_include"
_LITTLE_MEMORY_MB = 2000
_SHARED_MEMORY = Path("/dev/shm")
# Docker gives 64 MB. NVIDIA asks for 1 GB in a container with several GPUs.
_SHARED_MEMORY_MB = 256
_SHARED_MEMORY_OF_GPUS_MB = 1000
_INFINIBAND = Path("/sys/class/infiniband")


def interfaces() -> dict[str, str]:
    """The network interfaces that are up and have an IPv4 address: name → address."""
    up = {name for name, status in psutil.net_if_stats().items() if status.isup}
    return {
        name: address.address
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if name in up and address.family == socket.AF_INET
    }


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def host_address() -> str | None:
    """The IPv4 address that the host's own name resolves to, or None."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return None


def check_host_name() -> Iterator[Finding]:
    """Whether other hosts could reach this one at the address of its name."""
    name, address = socket.gethostname(), host_address()
    outward = [interface for interface, its in interfaces().items() if not _is_loopback(its)]
    example = outward[0] if outward else "eth0"
    if address is None:
        yield Finding(
            "host name",
            "warning",
            f"{name} does not resolve, and Gloo asks for the address of the host's name",
            f"add a line for {name} to /etc/hosts, or name an interface: horovodrun --network-interface {example}",
        )
    elif _is_loopback(address):
        yield Finding(
            "host name",
            "warning",
            f"{name} resolves to {address}, which no other host can reach; on one host this does no harm",
            f"over several hosts name an interface (horovodrun --gloo --network-interface {example}), "
            f"or give {name} its outward address in /etc/hosts",
        )
    else:
        yield Finding("host name", "ok", f"{name} resolves to {address}")


def check_interface() -> Iterator[Finding]:
    """Which interface the ranks would use."""
    known = interfaces()
    listed = ", ".join(f"{name} {address}" for name, address in known.items()) or "none"
    asked = os.environ.get("HOROVOD_GLOO_IFACE", "")
    if asked and asked not in known:
        yield Finding(
            "interface",
            "error",
            f"HOROVOD_GLOO_IFACE={asked}: there is no such interface that is up; there are: {listed}",
            "unset HOROVOD_GLOO_IFACE or name one of these",
        )
        return
    if asked:
        gloo = f"Gloo uses {asked} (HOROVOD_GLOO_IFACE)"
    else:
        address = host_address()
        # All of 127.0.0.0/8 is the loopback interface, though only 127.0.0.1 is listed as its address.
        by_address = next((name for name, its in known.items() if its == address), None)
        loopback = next((name for name, its in known.items() if _is_loopback(its)), None)
        name = by_address or (loopback if address and _is_loopback(address) else None)
        gloo = f"Gloo uses {name or 'an unknown interface'}, that of the host's name"
    mpi = os.environ.get(_MPI_INTERFACES)
    yield Finding("interface", "ok", f"{gloo}; MPI uses {mpi or 'any that reaches the peer'}; up: {listed}")


def check_cores() -> Iterator[Finding]:
    """How many cores this process may use, and how much memory is free."""
    usable, all_of_them = len(os.sched_getaffinity(0)), os.cpu_count()
    physical = psutil.cpu_count(logical=False)
    yield Finding("cores", "ok", f"{usable} usable of {all_of_them} ({physical or 'unknown'} physical)")
    available_mb = psutil.virtual_memory().available // _MB
    if available_mb < _LITTLE_MEMORY_MB:
        yield Finding("memory", "warning", f"{available_mb} MB free", "use fewer processes or a smaller --per-worker")
    else:
        yield Finding("memory", "ok", f"{available_mb} MB free")


def shared_memory_mb() -> int | None:
    """The size of /dev/shm; None where there is none."""
    try:
        there = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return None
    return there.f_frsize * there.f_blocks // _MB


def check_shared_memory(gpus: int) -> Iterator[Finding]:
    """Whether /dev/shm is large enough for the processes of this host, with so many GPUs, to talk through."""
    size_mb = shared_memory_mb()
    if (size_mb or 0) >= (_SHARED_MEMORY_OF_GPUS_MB if gpus > 1 else _SHARED_MEMORY_MB):
        yield Finding("shared memory", "ok", f"/dev/shm of {size_mb} MB")
        return
    yield Finding(
        "shared memory",
        "warning",
        "there is no /dev/shm" if size_mb is None else f"/dev/shm of {size_mb} MB is small",
        "docker run --shm-size=1g, or --ipc=host; elsewhere: mount -o remount,size=1g /dev/shm",
    )


def check_locked_memory() -> Iterator[Finding]:
    """Whether InfiniBand, where there is any, may lock its buffers (ulimit -l)."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and _INFINIBAND.is_dir() and any(_INFINIBAND.iterdir()):
        yield Finding(
            "locked memory",
            "warning",
            f"a process may lock {limit // 1000} kB, too little for InfiniBand's buffers",
            "set memlock to unlimited in /etc/security/limits.conf; docker run --ulimit memlock=-1",
        )


def gpu_names() -> list[str]:
    """The names of the NVIDIA GPUs that the driver lists; empty where there is no driver, or all are hidden."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def check_gpus(names: Sequence[str]) -> Iterator[Finding]:
    """How many GPUs there are, given their names, and whether torch could use them."""
    if not names:
        yield Finding("gpus", "ok", "none")
        return
    torch_version = framework_version("torch") or ""
    listed = f"{len(names)} ({', '.join(sorted(set(names)))})"
    if torch_version.endswith("+cpu"):
        yield Finding(
            "gpus",
            "warning",
            f"{listed}, but torch {torch_version} is a build for the CPU alone",
            "install a CUDA build of torch, then HOROVOD_GPU_OPERATIONS=NCCL hvd-imagenet install-horovod",
        )
    elif not _built_for_gpus():
        yield Finding(
            "gpus",
            "error",
            f"{listed}, but Horovod was built without GPU operations: it cannot reduce what is on a GPU",
            "HOROVOD_GPU_OPERATIONS=NCCL hvd-imagenet install-horovod --force; or use the CPU: CUDA_VISIBLE_DEVICES=",
        )
    else:
        yield Finding("gpus", "ok", listed)


def _built_for_gpus() -> bool:
    build = read_build_info()
    settings = {} if build is None else dict(build.inputs.get("environment", []))
    return any(name in settings for name in ("HOROVOD_GPU_OPERATIONS", "HOROVOD_GPU_ALLREDUCE", "HOROVOD_GPU"))
