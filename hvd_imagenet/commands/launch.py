"""`hvd-imagenet launch`: start a command on several processes of this machine."""

import argparse
import os
import pkgutil
import shlex
import sys

import hvd_imagenet.commands
from hvd_imagenet.launcher.allowed_environment import allowed_environment, tools_left_out
from hvd_imagenet.launcher.local import build_command, check_processes, resolve_program
from hvd_imagenet.launcher.machine import this_machine
from hvd_imagenet.launcher.mpirun import default_processes
from hvd_imagenet.launcher.process import run_job

EXAMPLES = """\
examples:
  hvd-imagenet launch -np 2 -- train --data DIR    two processes of `train`
  hvd-imagenet launch -np 8 -- python my_loop.py   any other program
  hvd-imagenet launch --dry-run -np 2 -- train     the mpirun command, to read

Processes are bound to their share of the cores; OMP_NUM_THREADS,
TF_NUM_INTRAOP_THREADS and HOROVOD_CYCLE_TIME are set unless you have set them.
Of your other environment variables the processes get what Python, the
frameworks, GPUs, MPI and Slurm read; --env NAME adds one, --env 'WANDB_*' several.
The exit code is that of the first process that failed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `launch`."""
    parser.add_argument(
        "-np",
        "--num-proc",
        type=int,
        metavar="N",
        help="number of processes; default: one per GPU, or one per core where there is no GPU",
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME",
        help="pass on this environment variable of yours as well; repeatable",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the mpirun command on one line and stop")
    parser.add_argument(
        "program",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND …",
        help="a command of hvd-imagenet (train, evaluate, …) or any program, with its arguments",
    )


def run(arguments: argparse.Namespace) -> int:
    """Starts the processes and waits for them.

    Args:
        arguments: the parsed options.

    Returns:
        The exit code of the first process that failed, 0 if none did.
    """
    words = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    own_commands = {module.name.replace("_", "-") for module in pkgutil.iter_modules(hvd_imagenet.commands.__path__)}
    program = resolve_program(words, own_commands - {"launch"})
    machine = this_machine()
    processes = default_processes(machine) if arguments.num_proc is None else arguments.num_proc
    check_processes(processes)
    environment = allowed_environment(os.environ, arguments.env)
    command = build_command(processes, program, machine)
    if arguments.dry_run:
        print(shlex.join(command))
        return 0
    if processes > machine.cores:
        print(
            f"warning: {processes} processes share {machine.cores} cores: each is slower than it would be alone",
            file=sys.stderr,
            flush=True,
        )
    missed = tools_left_out(os.environ, arguments.env)
    if missed and words[0] not in own_commands:
        print(
            f"note: the processes do not get {', '.join(missed)}; --env NAME passes one on", file=sys.stderr, flush=True
        )
    return run_job(command, environment)
