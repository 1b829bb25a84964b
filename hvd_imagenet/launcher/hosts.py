"""The hosts of a job: as a file or a discovery script lists them, and how processes are placed on them."""

import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from hvd_imagenet.errors import UserError

_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)"
    r"(?:(?::|\s+slots\s*=\s*)(?P<slots>\d+)(?:\s+max[_-]slots\s*=\s*\d+)?)?"
)
_SCRIPT_TIMEOUT_S = 30
_NAMED_HOSTS = 4


class Host(NamedTuple):
    """A host and the processes that it may have.

    Args:
        name: that ssh knows it by.
        slots: number of processes; None for one per GPU, or one per core where there is no GPU.
    """

    name: str
    slots: int | None = None


class Place(NamedTuple):
    """The processes of one host in one start of the job.

    Args:
        host: its name.
        processes: at least 1.
    """

    host: str
    processes: int


def parse_hosts(text: str, source: str, form: str = "one a line, as in: node1:8") -> list[Host]:
    r"""Reads a list of hosts, one a line: mpirun's `node1 slots=8`, horovodrun's `node1:8`, or `node1` alone.

    Args:
        text: the lines; what follows # is a comment, and Open MPI's max_slots says nothing here: no host gets more
            processes than it has slots.
        source: where they come from, for the message.
        form: how they are to be written, likewise.

    Returns:
        The hosts in their order.

    Raises:
        UserError: a line is not understood, or a host stands there twice.

    Example:
        >>> parse_hosts("node1:8\nnode2 slots=4  # the old one\nnode3\n", "hosts")
        [Host(name='node1', slots=8), Host(name='node2', slots=4), Host(name='node3', slots=None)]
    """
    hosts: dict[str, Host] = {}
    for line in (line.split("#")[0].strip() for line in text.splitlines()):
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None or found["slots"] == "0":
            raise UserError(f"{source}: {line!r} is not a host and its slots, 1 or more; write {form}")
        if found["name"] in hosts:
            raise UserError(f"{source}: {found['name']} is listed twice; list it once with all of its slots")
        hosts[found["name"]] = Host(found["name"], int(found["slots"]) if found["slots"] else None)
    return list(hosts.values())


def listed_hosts(text: str) -> tuple[Host, ...]:
    """The hosts of `-H LIST`.

    Args:
        text: hosts with their slots, separated by commas.

    Returns:
        At least one host.

    Raises:
        UserError: it is not understood, or is empty.

    Example:
        >>> listed_hosts("node1:8,node2")
        (Host(name='node1', slots=8), Host(name='node2', slots=None))
    """
    form = "them as in: -H node1:8,node2:8"
    if "\n" in text or not all(text.split(",")):
        raise UserError(f"-H {text!r}: not a list of hosts and their slots; write {form}")
    return tuple(parse_hosts(text.replace(",", "\n"), f"-H {text}", form))


def read_hosts(path: Path) -> list[Host]:
    """The hosts of `--hostfile FILE`, alias `--hosts FILE`.

    Args:
        path: of the file.

    Returns:
        At least one host.

    Raises:
        UserError: it cannot be read, is not understood, or is empty.
    """
    try:
        hosts = parse_hosts(path.read_text(), f"--hostfile {path}")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        remedy = "a list of hosts is for -H" if {":", ","} & {*str(path)} else "name a file with a host a line"
        raise UserError(f"--hostfile {path}: cannot be read ({reason}); {remedy}") from error
    if not hosts:
        raise UserError(f"--hostfile {path}: no host in it; write one a line, as in: node1:8")
    return hosts


def discover_hosts(script: str) -> list[Host]:
    """The hosts that `--discover SCRIPT` finds now.

    Args:
        script: a program that prints a list as parse_hosts reads it; it is given no arguments.

    Returns:
        The hosts, perhaps none.

    Raises:
        UserError: it cannot be run, fails, does not end, or what it prints is not understood.

    Example:
        >>> discover_hosts("true")
        []
    """
    try:
        answer = subprocess.run(
            [script], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_SCRIPT_TIMEOUT_S, check=False,
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"--discover {script}: cannot be run ({error.strerror}); give the path of a program") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"--discover {script}: not done after {_SCRIPT_TIMEOUT_S} s; it must print and end") from error
    if answer.returncode != 0:
        said = (answer.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UserError(f"--discover {script}: exit code {answer.returncode}, it says: {said}; it must print the hosts")
    return parse_hosts(answer.stdout, f"--discover {script}")


def first_few(between: str, texts: Sequence[str]) -> str:
    """What is said of many hosts on one line.

    Args:
        between: stands between two texts.
        texts: one for each host.

    Returns:
        The first few, and how many more there are.

    Example:
        >>> first_few(", ", ["node1:8", "node2:8", "node3:8", "node4:8", "node5:8", "node6:8"])
        'node1:8, node2:8, node3:8, node4:8 and 2 more'
    """
    more = len(texts) - _NAMED_HOSTS
    return between.join(texts[:_NAMED_HOSTS]) + (f" and {more} more" if more > 0 else "")


def fill(hosts: Sequence[tuple[str, int]], processes: int) -> list[Place]:
    """Places processes on hosts, in the order of the list, each host filled before the next.

    Args:
        hosts: names and slots.
        processes: at most as many as there are slots.

    Returns:
        The hosts that get processes.

    Example:
        >>> fill([("node1", 2), ("node2", 2), ("node3", 2)], 3)
        [Place(host='node1', processes=2), Place(host='node2', processes=1)]
    """
    places = []
    for name, slots in hosts:
        taken = min(slots, processes)
        if taken:
            places.append(Place(name, taken))
        processes -= taken
    return places


def hosts_of(ranks: Iterable[int], places: Sequence[Place]) -> frozenset[str]:
    """The hosts that ranks run on.

    Args:
        ranks: their numbers.
        places: the hosts, which are filled one after the other; none for this machine.

    Example:
        >>> sorted(hosts_of([2, 3], [Place("node1", 2), Place("node2", 1), Place("node3", 1)])), hosts_of([0], [])
        (['node2', 'node3'], frozenset())
    """
    in_order = [place.host for place in places for _ in range(place.processes)]
    return frozenset(in_order[rank] for rank in ranks if rank < len(in_order))


def fullest(places: Sequence[Place], processes: int) -> int:
    """Processes of the host that has most of them.

    Args:
        places: the hosts; none for this machine.
        processes: in all.

    Example:
        >>> fullest([Place("node1", 2), Place("node2", 1)], 3), fullest([], 3)
        (2, 3)
    """
    return max((place.processes for place in places), default=processes)
