"""Which launcher starts the processes."""

import shutil

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.slurm import Allocation, other_hosts

LAUNCHERS = ("auto", "local", "mpirun", "horovodrun", "srun")


def choose_launcher(asked: str, has_hosts: bool, allocation: Allocation | None) -> str:
    """The launcher that a job is started with.

    Args:
        asked: one of LAUNCHERS.
        has_hosts: whether the user has named hosts.
        allocation: of Slurm; None outside of one.

    Returns:
        mpirun, horovodrun or srun. For `auto` that is mpirun with hosts, srun inside a Slurm allocation, else mpirun on
        this machine alone, which `local` always is.

    Raises:
        UserError: what was asked for cannot be had.

    Example:
        >>> choose_launcher("auto", has_hosts=False, allocation=None)
        'mpirun'
    """
    if asked == "local" and has_hosts:
        raise UserError("--launcher local starts processes on this machine alone; leave the hosts out, or use mpirun")
    if asked == "srun" and has_hosts:
        raise UserError(
            "--launcher srun takes its hosts from Slurm's allocation; leave the list of hosts out, or use mpirun"
        )
    in_allocation = asked == "auto" and not has_hosts and allocation is not None
    if asked != "srun" and not in_allocation:
        return "horovodrun" if asked == "horovodrun" else "mpirun"
    if shutil.which("srun") is None:
        remedy = "name the hosts with -H" if allocation is None else "use --launcher local for this node alone"
        raise UserError(
            f"--launcher {asked}: there is no srun on PATH; start on a host of the Slurm cluster, or {remedy}"
        )
    if allocation is None:
        raise UserError(
            "--launcher srun: this is not inside a Slurm allocation; get one, as in: "
            "salloc --nodes=2 hvd-imagenet launch --launcher srun …"
        )
    return "srun"


def choice_notes(asked: str, has_hosts: bool, allocation: Allocation | None) -> list[str]:
    """What the user should know of the launcher before the start.

    Args:
        asked: one of LAUNCHERS.
        has_hosts: whether the user has named hosts.
        allocation: of Slurm; None outside of one.

    Returns:
        Lines to show, perhaps none.

    Example:
        >>> choice_notes("mpirun", False, Allocation("7", "node[1-2]", (4, 4)))  # doctest: +NORMALIZE_WHITESPACE
        ["note: --launcher mpirun without hosts starts all processes on this host; for the nodes of Slurm's job 7
         (node[1-2]) use --launcher srun"]
        >>> choice_notes("mpirun", True, Allocation("7", "node[1-2]", (4, 4)))
        []
    """
    if asked not in ("mpirun", "horovodrun") or has_hosts or allocation is None or not other_hosts([allocation.nodes]):
        return []
    return [
        f"note: --launcher {asked} without hosts starts all processes on this host; for the nodes of Slurm's job "
        f"{allocation.job} ({allocation.nodes}) use --launcher srun"
    ]
