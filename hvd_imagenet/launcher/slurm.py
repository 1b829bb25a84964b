"""The allocation of a Slurm job: what its environment says of it, and what scontrol does."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.allowed_environment import allowed_environment
from hvd_imagenet.launcher.hosts import Place, first_few
from hvd_imagenet.launcher.machine import Machine

_SCONTROL_TIMEOUT_S = 20
_STEP_TIMEOUT_S = 20


class Allocation(NamedTuple):
    """What a Slurm job may use.

    Args:
        job: its number.
        nodes: as Slurm writes them, node[1-4].
        cpus: that the job may use on each node.
        tasks: that were asked for (--ntasks, --ntasks-per-node); None where they were not.
        cpus_per_task: likewise.
        gpus: of each node.
    """

    job: str
    nodes: str
    cpus: tuple[int, ...]
    tasks: int | None = None
    cpus_per_task: int | None = None
    gpus: int = 0

    @property
    def default_processes(self) -> int:
        """As many as tasks were asked for, else one per GPU, or per CPU where there is no GPU."""
        return self.tasks or (self.gpus * len(self.cpus) if self.gpus else sum(self.room(1)))

    def room(self, processes: int) -> list[int]:
        """How many processes each node has CPUs for: those of a task each, or fewer where it must be.

        Args:
            processes: that are wanted in all.
        """
        tasks = [cpus // (self.cpus_per_task or 1) for cpus in self.cpus]
        return tasks if processes <= sum(tasks) else list(self.cpus)

    def machine(self, names: Sequence[str], places: Sequence[Place]) -> Machine:
        """What the processes of a node share, on the node where each has least.

        Args:
            names: of the nodes.
            places: those of them that take part.
        """
        cpus = dict(zip(names, self.cpus, strict=True))
        each = min(cpus[one.host] // one.processes for one in places)
        fullest = max(one.processes for one in places)
        return Machine(cores=fullest * min(each, self.cpus_per_task or each), gpus=self.gpus, whole=True)


def allocation(environment: Mapping[str, str]) -> Allocation | None:
    """The allocation that a process is in.

    Args:
        environment: its variables.

    Returns:
        What they say; None outside of an allocation.

    Example:
        >>> allocation({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-3]", "SLURM_JOB_CPUS_PER_NODE": "8(x2),4"})
        Allocation(job='7', nodes='node[1-3]', cpus=(8, 8, 4), tasks=None, cpus_per_task=None, gpus=0)
    """
    get = environment.get
    job, nodes, cpus = get("SLURM_JOB_ID"), get("SLURM_JOB_NODELIST"), get("SLURM_JOB_CPUS_PER_NODE")
    if not (job and nodes and cpus):
        return None
    tasks, cpus_per_task, counts = get("SLURM_NTASKS"), get("SLURM_CPUS_PER_TASK"), _counts(cpus)
    gpus_of_node = _last_number(get("SLURM_GPUS_ON_NODE") or get("SLURM_GPUS_PER_NODE"))
    return Allocation(
        job,
        nodes,
        counts,
        int(tasks) if tasks else None,
        int(cpus_per_task) if cpus_per_task else None,
        gpus_of_node or _last_number(get("SLURM_GPUS")) // len(counts),
    )


def _last_number(text: str | None) -> int:
    """Of Slurm's way of writing GPUs: 8, h200:8; 0 where nothing was asked for."""
    return int(re.findall(r"\d+", text or "0")[-1])


def _counts(text: str) -> tuple[int, ...]:
    """Slurm's way of writing numbers of nodes: 8(x2),4."""
    return tuple(
        int(count) for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text) for _ in range(int(times or 1))
    )


def place(given: Allocation, names: Sequence[str], processes: int) -> list[Place]:
    """Places processes on the nodes of an allocation as evenly as their CPUs allow.

    Args:
        given: the allocation.
        names: of its nodes.
        processes: at least 1.

    Returns:
        The nodes that get processes.

    Raises:
        UserError: there are not CPUs enough.

    Example:
        >>> place(Allocation("7", "node[1-2]", (4, 4)), ["node1", "node2"], 3)
        [Place(host='node1', processes=2), Place(host='node2', processes=1)]
    """
    room = given.room(processes)
    if processes > sum(room):
        raise UserError(
            f"-np {processes}: Slurm's job {given.job} has {sum(room)} CPUs on {given.nodes}; "
            f"lower -np, or ask for more: sbatch --ntasks={processes} …"
        )
    most = next(most for most in range(1, processes + 1) if sum(min(most, free) for free in room) >= processes)
    places = []
    for name, free in zip(names, room, strict=True):
        taken = min(most, free, processes)
        if taken:
            places.append(Place(name, taken))
        processes -= taken
    return places


def _scontrol(*words: str) -> str:
    """What `scontrol show …` prints."""
    command = ["scontrol", "show", *words]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SCONTROL_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise UserError("launch: scontrol is not on PATH; it comes with srun") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"launch: Slurm's controller does not answer within {_SCONTROL_TIMEOUT_S} s; see: scontrol ping"
        ) from error
    if answer.returncode != 0:
        said = (answer.stderr.strip().splitlines() or answer.stdout.strip().splitlines() or ["nothing"])[0]
        raise UserError(f"launch: {' '.join(command)} fails (it says: {said}); see: scontrol ping")
    return answer.stdout


def node_names(given: Allocation) -> list[str]:
    """The nodes of an allocation one by one.

    Args:
        given: the allocation.

    Returns:
        As many names as it has numbers of CPUs.

    Raises:
        UserError: scontrol is not there or does not answer.
    """
    return _scontrol("hostnames", given.nodes).split()


def other_hosts(names: Sequence[str]) -> list[str]:
    """The nodes that are not this host.

    Args:
        names: of nodes.

    Example:
        >>> other_hosts([os.uname().nodename, "node7.invalid"])
        ['node7.invalid']
    """
    own = {os.environ.get("SLURMD_NODENAME"), os.uname().nodename, os.uname().nodename.split(".")[0]}
    return [name for name in names if name not in own]


def own_address(names: Sequence[str]) -> str | None:
    """The address of this host, as the nodes reach it.

    Args:
        names: of the nodes.

    Returns:
        An IPv4 address; None where this host is the only node.

    Raises:
        UserError: Slurm's controller does not answer, or a node has no address that this host can reach.
    """
    others = other_hosts(names)
    if not others:
        return None
    other = others[0]
    found = re.search(r"NodeAddr=(\S+)", _scontrol("node", other))
    address = found[1] if found else other
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # sends nothing: it only asks for the route
        except OSError as error:
            raise UserError(
                f"launch: node {other} of Slurm's job has the address {address}, which this host cannot reach "
                f"({error.strerror}); start launch on a node of the job, with sbatch"
            ) from error
        return str(probe.getsockname()[0])


def check_interface_of_nodes(given: Allocation, names: Sequence[str], interface: str) -> None:
    """Raises UserError unless the other nodes of a job have a network interface, which a step of Slurm asks them.

    Args:
        given: the allocation.
        names: of its nodes that take part; this host is looked at by `check_network`.
        interface: that the user has chosen.

    Raises:
        UserError: a node has none of this name that is up, or Slurm does not start the step.
    """
    if not (nodes := other_hosts(names)):
        return
    command = [
        "srun", "--overlap", "--mpi=none", "--input=none", "--export=ALL", f"--nodelist={','.join(nodes)}",
        f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1",
        sys.executable, "-m", "hvd_imagenet.launcher.interfaces",
    ]  # fmt: skip
    try:
        answer = subprocess.run(
            command, env=allowed_environment(os.environ), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_STEP_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"launch: Slurm's job {given.job} starts no step within {_STEP_TIMEOUT_S} s; see: squeue --steps"
        ) from error
    # Why a node does not answer, the job's own step will say.
    found = dict(json.loads(line) for line in answer.stdout.splitlines() if line.startswith('["'))
    without = [f"{name} has {', '.join(sorted(there))}" for name, there in found.items() if interface not in there]
    if without:
        raise UserError(
            f"--network-interface {interface}: not on all nodes of Slurm's job {given.job}, up with an IPv4 address: "
            f"{first_few('; ', sorted(without))}; name one that all of them have"
        )
