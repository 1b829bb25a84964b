"""The argument list of srun, inside a Slurm allocation: pure functions over what was found out before."""

import re

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.start import Start
from hvd_imagenet.launcher.tuning import open_mpi_parameters


def check_pmix(listing: str) -> None:
    r"""Raises UserError unless Slurm offers PMIx, by which Open MPI's ranks find each other.

    Args:
        listing: what `srun --mpi=list` prints.

    Raises:
        UserError: this Slurm does not have it.

    Example:
        >>> check_pmix("MPI plugin types are...\n\tnone\n\tpmi2\n\tpmix\n")
    """
    there = re.findall(r"^(?:srun:)?\s+(\w+)$", listing, re.MULTILINE)
    if "pmix" not in there:
        raise UserError(
            f"launch: srun --mpi=pmix: this Slurm has {', '.join(there) or 'no such list'}; use --launcher mpirun "
            "with -H, or have Slurm's plugin installed (Debian: slurm-wlm-basic-plugins, libpmix-dev)"
        )


def srun_command(srun: str, start: Start) -> list[str]:
    """The whole argument list.

    Args:
        srun: its path.
        start: what to start, on nodes of the allocation. srun reads the values of `forwarded` from its own environment,
            and passes on by itself what Slurm, PMIx and the allocation set.

    Returns:
        env with what is chosen here, srun, its options, and the command.

    Example:
        >>> from hvd_imagenet.launcher.hosts import Place
        >>> from hvd_imagenet.launcher.machine import Machine
        >>> start = Start(4, ["true"], Machine(2, 0, True), places=[Place("node1", 2), Place("node2", 2)],
        ...               forwarded=["HOME", "SLURM_JOB_ID"])
        >>> words = srun_command("srun", start)
        >>> print(*words[words.index("srun") : -2])
        srun --mpi=pmix --nodes=2 --ntasks=4 --cpus-per-task=1 --kill-on-bad-exit=1 --input=none
        >>> words[-2].split(",")[:2]
        ['--export=GLIBC_TUNABLES', 'HOME']
    """
    variables = start.mpi_variables
    # Slurm offers munge as well, without which Open MPI's wheel was built, as each rank would say at length.
    if "PMIX_MCA_psec" not in start.environment:
        variables["PMIX_MCA_psec"] = "native"
    # A process that waits for the others gives its core to the threads that still compute.
    parameters = {"mpi_yield_when_idle": "1", **open_mpi_parameters(start.chosen, start.environment)}
    if len(start.places) == 1 and "OMPI_MCA_btl" not in start.environment:
        parameters["btl"] = "^tcp"  # shared memory serves one host, and listens nowhere
    if start.interface:
        parameters["btl_tcp_if_include"] = start.interface
    variables |= start.network_variables | {f"OMPI_MCA_{name}": value for name, value in parameters.items()}
    passed = sorted({name for name in start.forwarded if not name.startswith("SLURM_")} | set(variables))
    # In the shell of `srun --pty` that one's step holds the CPUs: a further step would wait for its end.
    overlap = ["--overlap"] if "SLURM_STEP_ID" in start.environment else []
    # With as many CPUs as processes use, Slurm binds each to its own.
    return [
        "env", *(f"{name}={value}" for name, value in variables.items()),
        srun, "--mpi=pmix", f"--nodes={len(start.places)}", f"--ntasks={start.processes}",
        f"--cpus-per-task={max(1, start.machine.cores // start.fullest)}", "--kill-on-bad-exit=1",
        "--input=none", *overlap, f"--export={','.join(passed)}", *start.command,
    ]  # fmt: skip
