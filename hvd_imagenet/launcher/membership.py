"""Which hosts take part in a start of the job, and with how many processes."""

import itertools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.hosts import Host, Place, discover_hosts, fill, first_few, fullest, read_hosts
from hvd_imagenet.launcher.machine import Machine, default_processes, this_machine
from hvd_imagenet.launcher.process import leaving_when_told
from hvd_imagenet.launcher.slurm import Allocation, check_interface_of_nodes, node_names, own_address, place

if TYPE_CHECKING:
    from hvd_imagenet.launcher.probe import Found

_LOOK_AGAIN_S = 5.0


class Members(NamedTuple):
    """Who takes part in one start.

    Args:
        processes: in all.
        machine: what the processes of a host share, of the smallest host.
        places: the hosts; empty for this machine alone.
        address: of this host, as the first of the other hosts sees it; None if there is none.
    """

    processes: int
    machine: Machine
    places: tuple[Place, ...] = ()
    address: str | None = None

    @property
    def fullest(self) -> int:
        """Processes of the host that has most of them."""
        return fullest(self.places, self.processes)


class TooFew(Exception):
    """Not enough processes can be had; the message says why."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for.

    Args:
        processes: -np; None for all that there is room for.
        least: --min-np; None for as many as at first.
        most: --max-np; None for no limit.
        hosts_listed: -H; empty without.
        hosts_file: --hostfile; None without.
        discover: --discover; None without.
        interface: --network-interface; None for any.
        start_timeout_s: --start-timeout, for how long to wait for hosts, and for the first iteration.
        allocation: of Slurm, whose nodes are the hosts; None where srun does not start the job.
        dry_run: --dry-run; hosts that cannot be asked are supposed to be like this one where their slots are listed.

    Raises:
        UserError: a number cannot be, numbers contradict each other, or there are two sources of hosts.
    """

    processes: int | None = None
    least: int | None = None
    most: int | None = None
    hosts_listed: tuple[Host, ...] = ()
    hosts_file: Path | None = None
    discover: str | None = None
    interface: str | None = None
    start_timeout_s: float = 600.0
    allocation: Allocation | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        for option, value in (("--min-np", self.least), ("--max-np", self.most)):
            if value is not None and value < 1:
                raise UserError(f"{option} {value}: at least 1 process is needed")
        if not self.start_timeout_s >= 0:
            raise UserError(f"--start-timeout {self.start_timeout_s:g}: seconds, 0 or more")
        ordered = [
            (option, value)
            for option, value in (("--min-np", self.least), ("-np", self.processes), ("--max-np", self.most))
            if value is not None
        ]
        for (smaller, low), (larger, high) in itertools.pairwise(ordered):
            if low > high:
                raise UserError(f"{smaller} {low} is more than {larger} {high}; it must be at most as much")
        given = {"-H": self.hosts_listed, "--hostfile": self.hosts_file, "--discover": self.discover}
        sources = [option for option, value in given.items() if value]
        if len(sources) > 1:
            raise UserError(f"{' and '.join(sources)}: each says which hosts there are; give one of them")

    @property
    def has_hosts(self) -> bool:
        """Whether there is a list of hosts."""
        return bool(self.hosts_listed or self.hosts_file or self.discover)

    def hosts(self) -> list[Host]:
        """The hosts that are listed now."""
        if self.hosts_file is not None:
            return read_hosts(self.hosts_file)
        return discover_hosts(self.discover) if self.discover is not None else list(self.hosts_listed)


def members(wanted: Wanted, least: int | None, say: Callable[[str], None], lost: Collection[str] = ()) -> Members:
    """Looks once for hosts that can take part.

    Args:
        wanted: by the user.
        least: processes that are needed; None for all of the list.
        say: shows a line to the user; hosts that are left out are told.
        lost: names of hosts that have just been lost, for which little time is spent.

    Returns:
        Who takes part.

    Raises:
        TooFew: fewer than that can be had.
        UserError: the list cannot be read, or there is no ssh.
    """
    limit = wanted.processes or wanted.most
    if wanted.allocation is not None:
        return _of_allocation(wanted.allocation, limit, wanted.interface)
    if not wanted.has_hosts:
        machine = this_machine()
        return Members(limit or default_processes(machine), machine)
    from hvd_imagenet.launcher.probe import Found  # late: a start on this machine does without

    if wanted.discover is not None:
        least = least or 1
    hosts = wanted.hosts()
    _check_slots(hosts, least)
    answers = _ask(wanted, hosts, say, lost)
    usable: list[tuple[str, int]] = []
    answered: list[Found] = []
    dropped: list[str] = []
    for host in hosts:
        answer = answers[host.name]
        if isinstance(answer, Found):
            usable.append((host.name, host.slots or default_processes(answer.machine)))
            answered.append(answer)
        else:
            dropped.append(f"{host.name}: {answer}")
    room = sum(slots for _, slots in usable)
    if room < (least or 1) or (least is None and dropped):
        raise TooFew(_too_few(least, room, dropped))
    for reason in dropped:
        say(f"launch: goes on without {reason}")
    processes = min(room, limit or room)
    places = fill(usable, processes)
    taken = answered[: len(places)]
    # A host that sees this one at a loopback address is this one, under another of its names.
    addresses = [found.seen_from for found in taken if found.seen_from is not None]
    address = next((each for each in addresses if not each.startswith(("127.", "::1"))), None)
    return Members(processes, _smallest([found.machine for found in taken]), tuple(places), address)


def _check_slots(hosts: Sequence[Host], needed: int | None) -> None:
    """Spares the user a wait for hosts that could not be enough."""
    room = sum(host.slots or 0 for host in hosts)
    if needed and hosts and needed > room and all(host.slots for host in hosts):
        names = first_few(", ", [f"{host.name}:{host.slots}" for host in hosts])
        raise TooFew(
            f"launch: {needed} processes are needed, the hosts have slots for {room} ({names}); lower -np, or give "
            "them more"
        )


def _ask(
    wanted: Wanted, hosts: Sequence[Host], say: Callable[[str], None], lost: Collection[str]
) -> "dict[str, Found | str]":
    """What each host has, or why it cannot take part; for a dry run perhaps what is supposed of it."""
    from hvd_imagenet.launcher.probe import Found, Unasked, probe_all

    answers = probe_all(hosts, wanted.interface, lost)
    unasked = [host for host in hosts if isinstance(answers[host.name], Unasked)]
    if not wanted.dry_run or not unasked or not all(host.slots for host in unasked):
        return answers
    why = first_few("; ", [f"{host.name}: {answers[host.name]}" for host in unasked])
    say(f"note: the line supposes this machine's cores and GPUs on hosts that cannot be asked; {why}")
    return answers | {host.name: Found(this_machine(), "", {}) for host in unasked}


def _of_allocation(given: Allocation, limit: int | None, interface: str | None) -> Members:
    """The nodes of Slurm's allocation, which Slurm itself has checked but for their networks."""
    processes = limit or given.default_processes
    names = node_names(given)
    places = place(given, names, processes)
    taken = [one.host for one in places]
    address = own_address(taken)
    if interface is not None:
        check_interface_of_nodes(given, taken, interface)
    return Members(processes, given.machine(names, places), tuple(places), address)


def _too_few(least: int | None, room: int, dropped: Sequence[str]) -> str:
    needed = "all of the hosts are needed" if least is None else f"{least} processes are needed"
    why = first_few("; ", dropped) or "no other host is listed"
    return f"launch: {needed}, {room} can be had; {why}"


def _smallest(machines: Sequence[Machine]) -> Machine:
    return Machine(
        cores=min(machine.cores for machine in machines),
        gpus=min(machine.gpus for machine in machines),
        whole=all(machine.whole for machine in machines),
    )


def wait_for_members(
    wanted: Wanted, least: int | None, first: bool, say: Callable[[str], None], lost: Collection[str] = ()
) -> Members:
    """Looks for hosts until there are enough of them.

    Args:
        wanted: by the user.
        least: processes that are needed; None for all of the list.
        first: whether this is the first start: then a listed host that cannot take part is a mistake.
        say: shows a line to the user.
        lost: names of hosts that have just been lost; the job does not wait for them while it can do without.

    Returns:
        Who takes part.

    Raises:
        Preempted: SIGTERM or SIGUSR1 has come while it waited.
        UserError: a mistake, or not enough processes in time, at the first start.
        TooFew: not enough processes could be had in time, at a later one.
    """
    with leaving_when_told(say):
        return _wait(wanted, least, first, say, lost)


def _wait(wanted: Wanted, least: int | None, first: bool, say: Callable[[str], None], lost: Collection[str]) -> Members:
    give_up_at_s = time.monotonic() + wanted.start_timeout_s
    told = ""
    while True:
        try:
            return members(wanted, least, say, lost)
        except TooFew as error:
            reason = str(error)
            if first and wanted.discover is None:
                raise UserError(reason) from error
        except UserError as error:
            reason = str(error)
            if first:
                raise
        if time.monotonic() + _LOOK_AGAIN_S > give_up_at_s:
            given_up = f"{reason}; given up after --start-timeout {wanted.start_timeout_s:g} s"
            raise UserError(given_up) if first else TooFew(given_up)
        if reason != told:
            say(f"{reason}; looking again every {_LOOK_AGAIN_S:g} s")
            told = reason
        lost = ()
        time.sleep(_LOOK_AGAIN_S)
