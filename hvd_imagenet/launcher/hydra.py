"""The argument list of Hydra, the mpirun of MPICH and Intel MPI: pure functions over what was found out before."""

from collections.abc import Mapping, Sequence

from hvd_imagenet.launcher.environment import TERMINAL_VARIABLE
from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.tuning import DEFAULT, Tuning, mpich_variables, tuning_variables


def is_hydra(version_text: str) -> bool:
    """Whether an mpirun is Hydra.

    Args:
        version_text: what `mpirun --version` prints.

    Returns:
        True for MPICH and Intel MPI.

    Example:
        >>> is_hydra("HYDRA build details:"), is_hydra("mpirun (Open MPI) 5.0.11")
        (True, False)
    """
    return version_text.startswith(("HYDRA build details", "Intel(R) MPI Library"))


def hydra_command(
    mpirun: str,
    processes: int,
    command: Sequence[str],
    *,
    machine: Machine,
    environment: Mapping[str, str],
    terminal: bool,
    places: Sequence[Place] = (),
    interface: str | None = None,
    forwarded: Sequence[str] = (),
    chosen: Tuning = DEFAULT,
) -> list[str]:
    """The whole argument list.

    Args:
        mpirun: its path.
        processes: how many to start.
        command: the program of every process, and its arguments.
        machine: what this machine offers, or the smallest of the hosts.
        environment: the variables that the processes inherit.
        terminal: whether what the processes print goes to a terminal.
        places: the hosts; none for this machine.
        interface: the network interface for all traffic between hosts; None leaves the choice to MPI.
        forwarded: names of the variables that other hosts get from here; the values travel over Hydra's connection.
        chosen: of tuning, by the user.

    Returns:
        mpirun, its options, and the command.

    Raises:
        UserError: MPICH does not have the chosen algorithm.

    Example:
        >>> print(*hydra_command("mpirun", 2, ["true"], machine=Machine(2, 0, True), environment={}, terminal=False))
        ... # doctest: +NORMALIZE_WHITESPACE
        mpirun -n 2 -bind-to core:1 -genv OMP_NUM_THREADS 1 -genv TF_NUM_INTRAOP_THREADS 1
            -genv HOROVOD_CYCLE_TIME 20 true
    """
    fullest = max((place.processes for place in places), default=processes)
    words = [mpirun, "-n", str(processes)]
    if places:
        words += ["-launcher", "ssh", "-hosts", ",".join(f"{place.host}:{place.processes}" for place in places)]
    if interface:
        words += ["-iface", interface]
    bound = machine.whole and fullest <= machine.cores
    words += ["-bind-to", f"core:{machine.cores // fullest}" if bound else "none"]
    variables = tuning_variables(fullest, machine, environment, chosen) | mpich_variables(chosen)
    if interface:
        variables |= {"HOROVOD_GLOO_IFACE": interface, "NCCL_SOCKET_IFNAME": interface}
    if terminal:
        variables[TERMINAL_VARIABLE] = "1"
    if places:
        words += ["-genvlist", ",".join(name for name in forwarded if name not in variables)]
    for name, value in variables.items():
        words += ["-genv", name, value]
    return [*words, *command]
