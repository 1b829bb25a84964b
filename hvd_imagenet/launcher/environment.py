"""What the launcher that started this process says about it, read from the environment alone.

This serves what happens before or without the communicator, which is the authority on ranks: telling a mistake
once, or pinning a GPU before a framework is imported.
"""

import os
import signal
import sys
import time
from typing import NamedTuple


class _Names(NamedTuple):
    """The variables of one launcher; an empty name where it has none."""

    rank: str
    size: str
    local_rank: str
    local_size: str


# The first launcher whose rank is set is believed. A launcher that runs inside another's job comes first:
# mpirun in a Slurm allocation leaves the variables of Slurm's own step in place.
_LAUNCHERS = (
    _Names("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    _Names("HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_RANK", "HOROVOD_LOCAL_SIZE"),
    _Names("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    # A batch script has SLURM_PROCID=0 too, so srun is known by its step; SLURM_NTASKS is the job's, not the step's.
    _Names("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""),
    _Names("PMIX_RANK", "", "", ""),
)

# mpirun gives its processes a pseudo-terminal whatever it writes to itself, so `launch` tells them.
TERMINAL_VARIABLE = "HVD_IMAGENET_TERMINAL"

# For the guards, which take both out of the environment of the ranks: ADDRESS:PORT of `launch`, and the job's secret.
MONITOR_VARIABLE = "HVD_IMAGENET_MONITOR"
SECRET_VARIABLE = "HVD_IMAGENET_SECRET"

# How often `launch` has started this job before: 0, 1, ….
RESTARTS_VARIABLE = "HVD_IMAGENET_RESTARTS"

# Longer than a launcher needs to end the job once the spokesman has left (Open MPI: under a second, but more than 10 s
# on a machine with seven times as much to do as it has cores); a mistake of one rank alone is still told within 30 s.
_WAIT_FOR_SPOKESMAN_S = 20.0
_spokesman = 0


def _number(name: str) -> int | None:
    """The variable's value if it is a whole number, else None."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else None


def _launcher() -> _Names | None:
    """The launcher that started this process."""
    for names in _LAUNCHERS:
        in_step = names.rank != "SLURM_PROCID" or "SLURM_STEP_ID" in os.environ
        if in_step and _number(names.rank) is not None:
            return names
    return None


def launched_rank() -> int | None:
    """The rank of this process in its job, or None if no launcher started it.

    Returns:
        0 … size − 1, from the variables of Open MPI, horovodrun over Gloo, Hydra (MPICH, Intel MPI), Slurm or PMIx.

    Example:
        >>> os.environ["OMPI_COMM_WORLD_RANK"] = "3"
        >>> launched_rank()
        3
        >>> del os.environ["OMPI_COMM_WORLD_RANK"]
    """
    names = _launcher()
    return None if names is None else _number(names.rank)


def launched_size() -> int | None:
    """The number of processes of this job, or None if no launcher started it or it does not say (plain PMIx).

    Returns:
        At least 1.

    Example:
        >>> os.environ.update(OMPI_COMM_WORLD_RANK="3", OMPI_COMM_WORLD_SIZE="4")
        >>> launched_size()
        4
        >>> del os.environ["OMPI_COMM_WORLD_RANK"], os.environ["OMPI_COMM_WORLD_SIZE"]
    """
    names = _launcher()
    return None if names is None else _number(names.size)


def launched_local_rank() -> int | None:
    """The rank of this process among those of its host, or None where no launcher tells it.

    Returns:
        0 … local size − 1.

    Example:
        >>> os.environ.update(HOROVOD_RANK="9", HOROVOD_LOCAL_RANK="1")
        >>> launched_local_rank()
        1
        >>> del os.environ["HOROVOD_RANK"], os.environ["HOROVOD_LOCAL_RANK"]
    """
    names = _launcher()
    return None if names is None else _number(names.local_rank)


def launched_local_size() -> int | None:
    """The number of this job's processes on this host, or None where no launcher tells it (srun does not).

    Returns:
        At least 1.

    Example:
        >>> os.environ.update(HOROVOD_RANK="9", HOROVOD_LOCAL_SIZE="8")
        >>> launched_local_size()
        8
        >>> del os.environ["HOROVOD_RANK"], os.environ["HOROVOD_LOCAL_SIZE"]
    """
    names = _launcher()
    return None if names is None else _number(names.local_size)


def output_is_terminal() -> bool:
    """Whether what this process prints ends on a terminal, so that a progress bar may overwrite its line.

    Returns:
        In a job, what `launch` found for its own output, and False under other launchers; else that of this process.

    Example:
        >>> os.environ["OMPI_COMM_WORLD_RANK"] = "0"
        >>> output_is_terminal()
        False
        >>> del os.environ["OMPI_COMM_WORLD_RANK"]
    """
    if launched_rank() is None:
        return sys.stdout.isatty()
    return os.environ.get(TERMINAL_VARIABLE) == "1"


def elect_spokesman(rank: int) -> None:
    """Says which rank tells a mistake that all ranks have agreed on; rank 0 does until this is called.

    Args:
        rank: the same on every rank, for example the lowest of those that met the mistake.

    Example:
        >>> elect_spokesman(0)
    """
    global _spokesman
    _spokesman = rank


def quiet_unless_spokesman() -> None:
    """Call right before an `error: …` line: only the spokesman's is seen where all ranks make the same mistake.

    The spokesman (rank 0 unless `elect_spokesman` chose another), and a process without a launcher, go on at once.
    Any other rank waits, and is ended by the launcher as soon as the spokesman has left with its exit code. It returns
    only where the spokesman did not leave, so that a mistake which this rank alone has made is told as well.

    Example:
        >>> quiet_unless_spokesman()
    """
    rank = launched_rank()
    if rank is not None and rank != _spokesman:
        # A run only takes note of SIGTERM, and srun sends nothing stronger; it returns the highest exit code of all.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(2))
        time.sleep(_WAIT_FOR_SPOKESMAN_S)
