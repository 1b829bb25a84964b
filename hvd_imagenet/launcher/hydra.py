"""The argument list of Hydra, the mpirun of MPICH and Intel MPI: pure functions over what was found out before."""

import re

from hvd_imagenet.launcher.start import Start
from hvd_imagenet.launcher.tuning import mpich_variables


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


def mpich_version(version_text: str) -> tuple[int, ...]:
    r"""The version of MPICH, which decides what its collectives can do.

    Args:
        version_text: what `mpirun --version` prints.

    Returns:
        Its first two numbers; none for another MPI.

    Example:
        >>> mpich_version("HYDRA build details:\n    Version:          4.0.2\n")
        (4, 0)
    """
    found = re.match(r"HYDRA build details:\s+Version:\s+(\d+)\.(\d+)", version_text)
    return () if found is None else (int(found[1]), int(found[2]))


def hydra_command(mpirun: str, version: tuple[int, ...], start: Start) -> list[str]:
    """The whole argument list.

    Args:
        mpirun: its path.
        version: of MPICH, as `mpich_version` reads it.
        start: what to start.

    Returns:
        mpirun, its options, and the command.

    Raises:
        UserError: this MPI does not have the chosen algorithm.

    Example:
        >>> from hvd_imagenet.launcher.machine import Machine
        >>> print(*hydra_command("mpirun", (4, 0), Start(2, ["true"], Machine(2, 0, True))))
        ... # doctest: +NORMALIZE_WHITESPACE, +ELLIPSIS
        mpirun -n 2 -bind-to core:1 -genv OMP_NUM_THREADS 1 -genv TF_NUM_INTRAOP_THREADS 1
            -genv GLIBC_TUNABLES glibc... -genv HOROVOD_CYCLE_TIME 2 -genv HOROVOD_FUSION_THRESHOLD 1048576 true
    """
    words = [mpirun, "-n", str(start.processes)]
    if start.places:
        words += ["-launcher", "ssh", "-hosts", start.hosts]
    elif "SLURM_JOB_ID" in start.environment:
        # Hydra would take the nodes of Slurm's allocation.
        words += ["-launcher", "fork", "-hosts", f"localhost:{start.processes}"]
    if start.interface:
        words += ["-iface", start.interface]
    cores, fullest = start.machine.cores, start.fullest
    words += ["-bind-to", f"core:{cores // fullest}" if start.machine.binds(fullest) else "none"]
    variables = start.mpi_variables | mpich_variables(start.chosen, version) | start.network_variables
    if start.places:
        words += ["-genvlist", ",".join(name for name in start.forwarded if name not in variables)]
    for name, value in variables.items():
        words += ["-genv", name, value]
    return [*words, *start.command]
