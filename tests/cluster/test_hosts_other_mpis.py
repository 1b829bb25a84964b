"""Debian's Open MPI 4 and MPICH understand the lists made for them: ranks on two hosts, with their variables.

They are there on the hosts alone, and not installed: with them come libibverbs, librdmacm and libpsm2, which the
environment's Open MPI would load from then on in every job, and an mpirun for whoever types the bare word.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_jobs import on_first_host
from network import INTERFACE, Cluster
from ranks import ROOT

from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.hydra import hydra_command, is_hydra, mpich_version
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.mpirun import mpirun_command, open_mpi_major
from hvd_imagenet.launcher.start import Start

PACKAGES = ("openmpi-bin", "mpich")
# Open MPI 4 calls itself so by the name that it is started by.
OPEN_MPI, MPICH = "/usr/bin/mpirun", "/usr/bin/mpiexec.hydra"
NAMES = ["RANK", "SIZE", "HOROVOD_CYCLE_TIME", "HOROVOD_GLOO_IFACE", "FORWARDED", "NOT_FORWARDED"]
FOUND = [f"{rank} 3 20 eth0 yes None {node}" for rank, node in enumerate(["node1", "node1", "node2"])]


def do(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"


@pytest.fixture(scope="module")
def unpacked(three_hosts: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs and all that they need and this machine lacks, as it would lie in /usr."""
    folder = tmp_path_factory.mktemp("other-mpis")
    archives, usr = folder / "archives", folder / "usr"
    (archives / "partial").mkdir(parents=True)
    (usr / "bin").mkdir(parents=True)
    do("apt-get", "-qq", "update")
    options = ["--download-only", "--no-install-recommends", "-o", f"Dir::Cache::archives={archives}"]
    do("apt-get", "-qq", *options, "install", *PACKAGES)
    for archive in archives.glob("*.deb"):
        do("dpkg-deb", "--extract", str(archive), str(folder))
    if (folder / "lib").is_dir():  # the hosts' /lib is a link to their /usr/lib
        shutil.copytree(folder / "lib", usr / "lib", symlinks=True, dirs_exist_ok=True)
    (usr / "bin" / "mpirun").symlink_to("mpirun.openmpi")  # as its installation would
    return usr


@pytest.fixture
def hosts(cluster: Cluster, unpacked: Path) -> Iterator[Cluster]:
    """Hosts with the programs in /usr."""
    begun = []
    try:
        for host in cluster.hosts:
            do(*host.command(["mount", "-t", "overlay", "-o", f"ro,lowerdir={unpacked}:/usr", "overlay", "/usr"]))
            begun.append(host)
        yield cluster
    finally:
        for host in begun:
            do(*host.command(["umount", "--lazy", "/usr"]))  # umount itself runs from there


def start(prefix: str) -> Start:
    """Three processes on two hosts, each of which prints what it has been given and where it runs."""
    names = [f"{prefix}{name}" if name in ("RANK", "SIZE") else name for name in NAMES]
    command = [sys.executable, "-c", f"import os; print(*map(os.environ.get, {names}), os.uname().nodename)"]
    places = [Place("node1", 2), Place("node2", 1)]
    machine = Machine(cores=2, gpus=0, whole=True)
    return Start(3, command, machine, places=places, interface=INTERFACE, forwarded=["FORWARDED"])


def runs_on_both_hosts(cluster: Cluster, command: list[str]) -> None:
    done = on_first_host(cluster, command, timeout_s=60, FORWARDED="yes", NOT_FORWARDED="yes")
    lines = sorted(line for line in done.stdout.splitlines() if line.endswith(("node1", "node2")))
    # What is started on the own host has its variables anyway.
    here = [line.replace(" yes yes ", " yes None ") for line in lines[:2]]
    assert [*here, *lines[2:]] == FOUND, f"{done.stdout}\n{done.stderr}"


# All that listens on a host.
SOCKETS = """\
import os, subprocess
for line in subprocess.run(["ss", "-H", "-ltn"], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
    print(os.uname().nodename, line.split()[3])
"""


def version(cluster: Cluster, program: str) -> str:
    return str(on_first_host(cluster, [program, "--version"], timeout_s=20).stdout)


def test_mpirun_of_open_mpi_4(hosts: Cluster) -> None:
    major = open_mpi_major(version(hosts, OPEN_MPI), OPEN_MPI)
    assert major == 4
    runs_on_both_hosts(hosts, mpirun_command(OPEN_MPI, major, True, start("OMPI_COMM_WORLD_")))


def test_mpirun_of_mpich(hosts: Cluster) -> None:
    said = version(hosts, MPICH)
    assert is_hydra(said)
    runs_on_both_hosts(hosts, hydra_command(MPICH, mpich_version(said), start("PMI_")))


def test_sockets_of_mpich(hosts: Cluster) -> None:
    """mpiexec.hydra alone listens, at the port of README's variable, on the host that it runs on."""
    command = [sys.executable, "-c", SOCKETS]
    machine, places = Machine(cores=2, gpus=0, whole=True), [Place("node1", 1), Place("node2", 1)]
    start = Start(2, command, machine, places=places, interface=INTERFACE)
    words = hydra_command(MPICH, mpich_version(version(hosts, MPICH)), start)
    (variable,) = re.findall(r"`(MPICH_PORT_RANGE)=42000:42000`", (ROOT / "README.md").read_text())
    done = on_first_host(hosts, words, timeout_s=60, **{variable: "42000:42000"})
    lines = {line for line in done.stdout.splitlines() if line.startswith("node") and not line.endswith(":22")}
    assert lines == {"node1 0.0.0.0:42000"}, f"{done.stdout}\n{done.stderr}"
