"""Starts a job, and starts it again after a failure, on the hosts that are left.

The result of a run does not depend on the number of its processes, so nothing else changes. A failure is a change of
membership: the whole job ends, and every process goes on from the last checkpoint.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher import job_secret
from hvd_imagenet.launcher.environment import RESTARTS_VARIABLE
from hvd_imagenet.launcher.hosts import hosts_of
from hvd_imagenet.launcher.local import build_command, guarded
from hvd_imagenet.launcher.membership import Members, TooFew, Wanted, wait_for_members
from hvd_imagenet.launcher.monitor import PREEMPTED, Monitor
from hvd_imagenet.launcher.process import run_job
from hvd_imagenet.launcher.tuning import DEFAULT, Tuning

FINAL_CODES = (0, 2, PREEMPTED)
"""Exit codes after which a job is never started again: done, a user's mistake, preempted."""
LOOPBACK = "127.0.0.1"

# They say something of this host alone.
_NOT_FORWARDED = ("HOSTNAME", "PWD", "OLDPWD", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "SHLVL", "_")


@dataclass(frozen=True)
class Job:
    """What to start, and how.

    Args:
        program: what every process runs, for the number of earlier starts.
        wanted: processes and hosts.
        environment: the variables that the processes get.
        launcher: mpirun, horovodrun or srun.
        max_restarts: how often to start again after a failure.
        stall_timeout_s: for how long a rank may stand still; 0 for ever.
        tuning: what the user has chosen of it.
    """

    program: Callable[[int], Sequence[str]]
    wanted: Wanted
    environment: Mapping[str, str]
    launcher: str = "mpirun"
    max_restarts: int = 0
    stall_timeout_s: float = 600.0
    tuning: Tuning = DEFAULT

    def __post_init__(self) -> None:
        if self.max_restarts < 0:
            raise UserError(f"--max-restarts {self.max_restarts}: it must be 0 or more")
        if not self.stall_timeout_s >= 0:
            raise UserError(f"--stall-timeout {self.stall_timeout_s:g}: seconds, 0 or more; 0 is for ever")

    def command(self, members: Members, starts: int, extra_names: Sequence[str] = ()) -> list[str]:
        """The launcher's argument list of one start.

        Args:
            members: who takes part.
            starts: how many there were before.
            extra_names: of variables that other hosts get beside those of the environment.
        """
        names = [name for name in self.environment if name not in _NOT_FORWARDED]
        return build_command(
            members.processes, guarded(self.program(starts)), members.machine, launcher=self.launcher,
            environment=self.environment, places=members.places, interface=self.wanted.interface,
            forwarded=sorted({*names, *extra_names}), chosen=self.tuning, start_timeout_s=self.wanted.start_timeout_s,
        )  # fmt: skip


class _End(NamedTuple):
    """How one start has ended."""

    code: int
    on_purpose: bool
    lost: frozenset[str] = frozenset()
    """Hosts that have not been heard of for long."""


def supervise(job: Job, members: Members, say: Callable[[str], None]) -> int:
    """Runs a job to its end.

    Args:
        job: what to start, and how.
        members: of the first start.
        say: shows a line to the user.

    Returns:
        The exit code of the first process that failed in the last start, 0 if none did; 124 if the job stood still.
    """
    least = job.wanted.least or members.processes
    starts = 0
    while True:
        began_s = time.monotonic()
        end = _start(job, members, starts, say)
        if end.code in FINAL_CODES or end.on_purpose or job.max_restarts == 0:
            return end.code
        if starts == job.max_restarts:
            say(f"launch: exit code {end.code}; given up after {starts} restarts (--max-restarts)")
            return end.code
        starts += 1
        ran_s = time.monotonic() - began_s
        try:
            members = wait_for_members(job.wanted, least, first=False, say=say, lost=end.lost)
        except TooFew as error:
            say(str(error))
            return end.code
        count = f"restart {starts} of {job.max_restarts}"
        say(f"launch: exit code {end.code} after {ran_s:.0f} s; {count}, on {_size(members)}")


def _size(members: Members) -> str:
    where = f" on {len(members.places)} hosts" if len(members.places) > 1 else ""
    return f"{members.processes} process{'es' if members.processes > 1 else ''}{where}"


def _start(job: Job, members: Members, starts: int, say: Callable[[str], None]) -> _End:
    """Runs the job once, watched.

    Raises:
        UserError: the other hosts see this one at an address that is not its own.
    """
    address = listening_address(members, job.wanted.interface)
    try:
        watch = Monitor(address, job.stall_timeout_s, job.wanted.start_timeout_s, say)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise UserError(
            f"launch: cannot listen on {address}, where the other hosts see this one ({why}; NAT or ProxyJump?); name "
            "a network that all of them are on: --network-interface"
        ) from error
    with watch as monitor:
        own = {**monitor.environment, RESTARTS_VARIABLE: str(starts), job_secret.VARIABLE: job_secret.new_secret()}
        command = job.command(members, starts, tuple(own))
        code = run_job(command, {**job.environment, **own}, monitor)
        if code == 0:
            monitor.check_ends()
    if monitor.ending:
        return _End(code, on_purpose=True)
    if monitor.failure is not None:
        code = monitor.failure.code
    return _End(code, monitor.asked_to_end, hosts_of(monitor.silent_ranks, members.places))


def listening_address(members: Members, interface: str | None) -> str:
    """Where the guards reach the monitor: the loopback unless there are other hosts.

    Args:
        members: of the job.
        interface: that the user has chosen; None for the address from which ssh has reached the others.

    Returns:
        An IPv4 address of this host.

    Raises:
        UserError: there is no such interface here.

    Example:
        >>> from hvd_imagenet.launcher.machine import this_machine
        >>> listening_address(Members(2, this_machine()), interface=None)
        '127.0.0.1'
    """
    if members.address is None:
        return LOOPBACK
    return members.address if interface is None else _address_of(interface)


def check_network(interface: str | None) -> None:
    """Raises UserError unless this host has the interface.

    Args:
        interface: that the user has chosen, or None.

    Raises:
        UserError: there is none of this name; the message lists those that there are.

    Example:
        >>> check_network("lo")
    """
    if interface is not None:
        _address_of(interface)


def _address_of(interface: str) -> str:
    from hvd_imagenet.launcher.probe import check_interface, look  # late: most starts do without

    return check_interface(interface, look().addresses)
