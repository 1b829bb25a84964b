"""`hvd-imagenet launch`: start a command on several processes, watch it, and start it again after a failure."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields

from hvd_imagenet.commands import COMMANDS
from hvd_imagenet.commands.launch_options import EXAMPLES as EXAMPLES
from hvd_imagenet.commands.launch_options import add_arguments as add_arguments
from hvd_imagenet.launcher.allowed_environment import allowed_environment, tools_left_out
from hvd_imagenet.launcher.choice import choice_notes, choose_launcher
from hvd_imagenet.launcher.hosts import listed_hosts
from hvd_imagenet.launcher.local import check_processes, resolve_program
from hvd_imagenet.launcher.machine import crowding
from hvd_imagenet.launcher.membership import Wanted, wait_for_members
from hvd_imagenet.launcher.slurm import Allocation, allocation
from hvd_imagenet.launcher.supervisor import Job, check_network, supervise
from hvd_imagenet.launcher.tuning import Tuning, tuning_notes


def run(arguments: argparse.Namespace) -> int:
    """Starts the processes and waits for them.

    Args:
        arguments: the parsed options.

    Returns:
        The exit code of the first process that failed, 0 if none did; see EXAMPLES.
    """
    words = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    program = resolve_program(words, set(COMMANDS) - {"launch"})
    check_processes(arguments.num_proc)
    has_hosts = any((arguments.host_list, arguments.hosts, arguments.discover))
    given = allocation(os.environ)
    launcher = choose_launcher(arguments.launcher, has_hosts, given)
    wanted = _wanted(arguments, given if launcher == "srun" else None)
    check_network(wanted.interface)
    job = Job(
        _of_starts(program, words, 0 if arguments.dry_run else arguments.max_restarts),
        wanted,
        allowed_environment(os.environ, arguments.env),
        launcher,
        arguments.max_restarts,
        arguments.stall_timeout,
        _tuning(arguments),
    )
    members = wait_for_members(wanted, wanted.least or wanted.processes, first=True, say=_say)
    notes = choice_notes(arguments.launcher, has_hosts, given)
    for note in [*notes, *tuning_notes(job.tuning, launcher, members.machine)]:
        _say(note)
    if arguments.dry_run:
        print(shlex.join(job.command(members, starts=0)))
        return 0
    for warning in crowding(members.fullest, members.machine):
        _say(warning)
    missed = tools_left_out(os.environ, arguments.env)
    if missed and words[0] not in COMMANDS:
        _say(f"note: the processes do not get {', '.join(missed)}; --env NAME passes one on")
    return supervise(job, members, _say)


def _wanted(arguments: argparse.Namespace, given: Allocation | None) -> Wanted:
    """The processes and hosts that the options ask for."""
    return Wanted(
        processes=arguments.num_proc,
        least=arguments.min_np,
        most=arguments.max_np,
        hosts_listed=listed_hosts(arguments.host_list) if arguments.host_list is not None else (),
        hosts_file=arguments.hosts,
        discover=arguments.discover,
        interface=arguments.network_interface,
        start_timeout_s=arguments.start_timeout,
        allocation=given,
        dry_run=arguments.dry_run,
    )


def _tuning(arguments: argparse.Namespace) -> Tuning:
    """The tuning that the options choose."""
    return Tuning(**{field.name: getattr(arguments, field.name) for field in fields(Tuning)})


def _of_starts(program: list[str], words: Sequence[str], restarts: int) -> Callable[[int], list[str]]:
    """What every process runs, for the number of earlier starts."""
    if words[0] != "train" or not restarts:
        return lambda starts: program
    from hvd_imagenet.commands.restarts import words_of_starts  # late: it reads recipes and checkpoints

    head = program[: len(program) - len(words) + 1]
    words_of_start = words_of_starts(words[1:])
    return lambda starts: [*head, *words_of_start(starts)]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
