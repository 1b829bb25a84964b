"""The argument list of srun, inside a Slurm allocation: pure functions over what was found out before."""

import re
from collections.abc import Mapping, Sequence

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.environment import TERMINAL_VARIABLE
from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.tuning import DEFAULT, Tuning, open_mpi_parameters, tuning_variables


def mpi_plugin(listing: str, wanted: str) -> str:
    r"""The name for `srun --mpi`, by which ranks find each other.

    Args:
        listing: what `srun --mpi=list` prints.
        wanted: pmix for Open MPI, pmi2 for MPICH.

    Returns:
        The same.

    Raises:
        UserError: this Slurm does not have it.

    Example:
        >>> mpi_plugin("MPI plugin types are...\n\tnone\n\tpmi2\n\tpmix\n", "pmix")
        'pmix'
    """
    there = re.findall(r"^(?:srun:)?\s+(\w+)$", listing, re.MULTILINE)
    if wanted not in there:
        raise UserError(
            f"launch: srun --mpi={wanted}: this Slurm has {', '.join(there) or 'no such list'}; use --launcher mpirun "
            "with -H, or have Slurm's plugin installed (Debian: slurm-wlm-basic-plugins, libpmix-dev)"
        )
    return wanted


def srun_command(
    srun: str,
    plugin: str,
    processes: int,
    command: Sequence[str],
    *,
    machine: Machine,
    environment: Mapping[str, str],
    terminal: bool,
    places: Sequence[Place],
    interface: str | None = None,
    forwarded: Sequence[str] = (),
    chosen: Tuning = DEFAULT,
) -> list[str]:
    """The whole argument list.

    Args:
        srun: its path.
        plugin: for --mpi.
        processes: how many to start.
        command: the program of every process, and its arguments.
        machine: what the processes of a node share, on the smallest node.
        environment: the variables that srun inherits.
        terminal: whether what the processes print goes to a terminal.
        places: the nodes of the allocation that take part.
        interface: the network interface for all traffic between nodes; None leaves the choice to Open MPI.
        forwarded: names of the variables that the processes get. srun reads the values from its own environment, and
            passes on by itself what Slurm, PMIx and the allocation set.
        chosen: of tuning, by the user.

    Returns:
        env with what is chosen here, srun, its options, and the command.

    Example:
        >>> places = [Place("node1", 2), Place("node2", 2)]
        >>> words = srun_command("srun", "pmix", 4, ["true"], machine=Machine(2, 0, True), environment={},
        ...                      terminal=False, places=places, forwarded=["HOME", "SLURM_JOB_ID"])
        >>> print(*words[words.index("srun") : -2])
        srun --mpi=pmix --nodes=2 --ntasks=4 --cpus-per-task=1 --kill-on-bad-exit=1 --input=none
        >>> words[-2].split(",")[:2]
        ['--export=HOME', 'HOROVOD_CYCLE_TIME']
    """
    fullest = max(one.processes for one in places)
    variables = tuning_variables(fullest, machine, environment, chosen)
    # Slurm offers munge as well, without which Open MPI's wheel was built, as each rank would say at length.
    if "PMIX_MCA_psec" not in environment:
        variables["PMIX_MCA_psec"] = "native"
    # A process that waits for the others gives its core to the threads that still compute.
    parameters = {"mpi_yield_when_idle": "1", **open_mpi_parameters(chosen, environment)}
    if len(places) == 1 and "OMPI_MCA_btl" not in environment:
        parameters["btl"] = "^tcp"  # shared memory serves one host, and listens nowhere
    if interface:
        parameters["btl_tcp_if_include"] = interface
        variables |= {"HOROVOD_GLOO_IFACE": interface, "NCCL_SOCKET_IFNAME": interface}
    variables |= {f"OMPI_MCA_{name}": value for name, value in parameters.items()}
    if terminal:
        variables[TERMINAL_VARIABLE] = "1"
    passed = sorted({name for name in forwarded if not name.startswith("SLURM_")} | set(variables))
    # In the shell of `srun --pty` that one's step holds the CPUs: a further step would wait for its end.
    overlap = ["--overlap"] if "SLURM_STEP_ID" in environment else []
    # With as many CPUs as processes use, Slurm binds each to its own.
    return [
        "env", *(f"{name}={value}" for name, value in variables.items()),
        srun, f"--mpi={plugin}", f"--nodes={len(places)}", f"--ntasks={processes}",
        f"--cpus-per-task={max(1, machine.cores // fullest)}", "--kill-on-bad-exit=1",
        "--input=none", *overlap, f"--export={','.join(passed)}", *command,
    ]  # fmt: skip
