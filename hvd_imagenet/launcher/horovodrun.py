"""The argument list of horovodrun, for jobs over Gloo."""

from collections.abc import Mapping, Sequence

from hvd_imagenet.launcher.environment import TERMINAL_VARIABLE
from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.tuning import DEFAULT, Tuning, tuning_variables

GLOO_TIMEOUT_S = 600
"""Gloo's own 30 s are too short for 50 hosts to connect, and for a rank that saves a checkpoint alone."""


def horovodrun_command(
    horovodrun: str,
    processes: int,
    command: Sequence[str],
    *,
    machine: Machine,
    environment: Mapping[str, str],
    terminal: bool,
    places: Sequence[Place] = (),
    interface: str | None = None,
    chosen: Tuning = DEFAULT,
) -> list[str]:
    """The whole argument list.

    Args:
        horovodrun: its path.
        processes: how many to start.
        command: the program of every process, and its arguments.
        machine: what this machine offers, or the smallest of the hosts.
        environment: the variables that the processes inherit.
        terminal: whether what the processes print goes to a terminal.
        places: the hosts; none for this machine.
        interface: the network interface for all traffic between hosts; None leaves the choice to Horovod.
        chosen: of tuning, by the user.

    Returns:
        env with what is chosen here, horovodrun, its options, and the command.

    Example:
        >>> print(*horovodrun_command("horovodrun", 2, ["true"], machine=Machine(2, 0, True), environment={},
        ...                           terminal=False))  # doctest: +NORMALIZE_WHITESPACE
        env OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 HOROVOD_CYCLE_TIME=20 HOROVOD_GLOO_TIMEOUT_SECONDS=600
            horovodrun --gloo --disable-cache -np 2 true
    """
    fullest = max((place.processes for place in places), default=processes)
    variables = tuning_variables(fullest, machine, environment, chosen)
    if "HOROVOD_GLOO_TIMEOUT_SECONDS" not in environment:
        variables["HOROVOD_GLOO_TIMEOUT_SECONDS"] = str(GLOO_TIMEOUT_S)
    if terminal:
        variables[TERMINAL_VARIABLE] = "1"
    words = ["env", *(f"{name}={value}" for name, value in variables.items())]
    words += [horovodrun, "--gloo", "--disable-cache", "-np", str(processes)]
    if places:
        words += ["-H", ",".join(f"{place.host}:{place.processes}" for place in places)]
    if interface:
        words += ["--network-interface", interface]
    return [*words, *command]
