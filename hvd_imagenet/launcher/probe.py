"""Whether a host can take part in a job: asked over ssh before each start.

Run as a program on that host, it prints what `launch` wants to know of it.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from hvd_imagenet import __version__
from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.hosts import Host
from hvd_imagenet.launcher.interfaces import addresses
from hvd_imagenet.launcher.machine import Machine, this_machine

CONNECT_TIMEOUT_S = 8
LOST_CONNECT_TIMEOUT_S = 2
"""For a host that has just been lost, and without which the job can go on."""
PROBE_TIMEOUT_S = 20
# Threads that only wait. A host that is silent takes 8 s, or 20 s, so that a hundred of them are told within 30 s.
_MOST_AT_ONCE = 128
_THIS_HOST = ("localhost", "127.0.0.1")

# What ssh or the remote shell says → what to do about it.
_REMEDIES = (
    (
        r"IDENTIFICATION HAS CHANGED",
        "its host key is not the one that is known; make sure of the new one, then: ssh-keygen -R {host}; ssh {host}",
    ),
    (
        r"Host key verification failed|host key is known",
        "its host key is not known; look at it and accept it: ssh {host}",
    ),
    (r"Permission denied", "ssh wants a password; give it your key: ssh-copy-id {host}"),
    (r"Connection refused", "ssh is refused; start sshd there, or name its port in ~/.ssh/config"),
    (r"Could not resolve", "the name is not known; write the host's address, or name it in ~/.ssh/config"),
    (r"timed out|No route to host|unreachable", "it does not answer; is it up, and on this network?"),
    (r"No module named|not found|No such file", "{python} with hvd_imagenet is not there; install at the same path"),
)


class Found(NamedTuple):
    """What a host says of itself.

    Args:
        machine: its cores and GPUs.
        version: of hvd_imagenet.
        addresses: IPv4 address of each network interface that is up.
        seen_from: address of the host that asks, as this one sees it; None without ssh.
    """

    machine: Machine
    version: str
    addresses: dict[str, str]
    seen_from: str | None = None


class Unasked(str):
    """Why a host could not be asked, which may be able to take part all the same."""


def look() -> Found:
    """What this host says of itself.

    Returns:
        Its cores, GPUs and networks.

    Example:
        >>> look().addresses["lo"]
        '127.0.0.1'
    """
    connection = os.environ.get("SSH_CONNECTION", "").split()
    return Found(this_machine(), __version__, addresses(), connection[0] if connection else None)


def is_this_host(name: str) -> bool:
    """Whether a name in a list of hosts means the host that `launch` runs on.

    Args:
        name: as the user wrote it.

    Returns:
        True for localhost and for this host's own name, short or in full.

    Example:
        >>> is_this_host("localhost"), is_this_host("node7.invalid")
        (True, False)
    """
    own = os.uname().nodename
    return name in (*_THIS_HOST, own, own.split(".")[0])


def check_interface(interface: str, addresses: dict[str, str]) -> str:
    """Looks for a network interface on this host.

    Args:
        interface: its name.
        addresses: of all that are up.

    Returns:
        Its IPv4 address.

    Raises:
        UserError: none of this name is up.

    Example:
        >>> check_interface("lo", {"lo": "127.0.0.1"})
        '127.0.0.1'
    """
    if interface not in addresses:
        raise UserError(
            f"--network-interface {interface}: this host has none of this name that is up with an IPv4 address; "
            f"it has {', '.join(sorted(addresses))}"
        )
    return addresses[interface]


def ssh_command(host: str, words: Sequence[str], connect_timeout_s: int = CONNECT_TIMEOUT_S) -> list[str]:
    """The argument list that runs a command on another host and never asks anything.

    Args:
        host: its name, which ssh cannot take for an option.
        words: the command and its arguments; ssh hands them to the shell there as one string, so each is quoted.
        connect_timeout_s: for how long the host may be silent.

    Returns:
        ssh, its options, the host and the command.

    Example:
        >>> print(*ssh_command("node1", ["echo", "a b"]))
        ssh -o BatchMode=yes -o ConnectTimeout=8 -- node1 echo 'a b'
    """
    options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={connect_timeout_s}"]
    return ["ssh", *options, "--", host, *map(shlex.quote, words)]


def probe(host: str, interface: str | None, connect_timeout_s: int = CONNECT_TIMEOUT_S) -> Found | str:
    """Asks a host what it has.

    Args:
        host: its name.
        interface: that it must have; None if any will do.
        connect_timeout_s: for how long it may be silent.

    Returns:
        What it has, or why it cannot take part and what to do about it.

    Raises:
        UserError: there is no ssh here.
    """
    if is_this_host(host):
        found: Found | str = look()
    else:
        found = _ask(host, connect_timeout_s)
    if isinstance(found, str):
        return found
    if found.version != __version__:
        return f"it has hvd_imagenet {found.version}, this host {__version__}; install the same"
    if interface is not None and interface not in found.addresses:
        return f"it has no network interface {interface} that is up; it has {', '.join(sorted(found.addresses))}"
    return found


def _ask(host: str, connect_timeout_s: int) -> Found | str:
    words = ssh_command(host, [sys.executable, "-m", "hvd_imagenet.launcher.probe"], connect_timeout_s)
    try:
        answer = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=PROBE_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise UserError("ssh is not on PATH; get it with: apt install openssh-client") from error
    except subprocess.TimeoutExpired:
        return Unasked(f"no answer after {PROBE_TIMEOUT_S} s; is it up, and on this network?")
    if answer.returncode == 0:
        try:
            said = json.loads(answer.stdout.strip().splitlines()[-1])
            if isinstance(said, str):
                return said
            machine, version, addresses, seen_from = said
            return Found(Machine(*machine), str(version), dict(addresses), seen_from)
        except (ValueError, TypeError, IndexError):
            printed = answer.stdout.strip()[:60]
            return Unasked(f"its shell prints {printed!r} where no one is logged in; make it print nothing")
    return Unasked(why_ssh_failed(host, answer.stderr, answer.returncode))


def why_ssh_failed(host: str, errors: str, code: int) -> str:
    """Why a command could not be run on another host.

    Args:
        host: its name.
        errors: what ssh and the shell there have written to standard error.
        code: ssh's exit code.

    Returns:
        What to do about it, and the last line of what was said.

    Example:
        >>> why_ssh_failed("node1", "me@node1: Permission denied (publickey).", 255)
        'ssh wants a password; give it your key: ssh-copy-id node1 (me@node1: Permission denied (publickey).)'
    """
    said = last_line(errors, code)
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, errors):
            return f"{remedy.format(host=host, python=sys.executable)} ({said})"
    return f"ssh fails; try: {shlex.join(ssh_command(host, ['true']))} ({said})"


def last_line(errors: str, code: int) -> str:
    r"""What a program that failed has said last.

    Args:
        errors: what it has written to standard error.
        code: its exit code, for one that has said nothing.

    Example:
        >>> last_line("a\nb\n", 1), last_line("", 3)
        ('b', 'exit code 3')
    """
    return (errors.strip().splitlines() or [f"exit code {code}"])[-1]


def probe_all(hosts: Sequence[Host], interface: str | None, lost: Collection[str] = ()) -> dict[str, Found | str]:
    """Asks all hosts at once.

    Args:
        hosts: to ask.
        interface: that each must have; None if any will do.
        lost: names of those that have just been lost.

    Returns:
        By name, what each has or why it cannot take part.

    Raises:
        UserError: there is no ssh here.
    """
    timeouts_s = [LOST_CONNECT_TIMEOUT_S if host.name in lost else CONNECT_TIMEOUT_S for host in hosts]
    with ThreadPoolExecutor(_MOST_AT_ONCE) as threads:
        answers = threads.map(lambda host, timeout_s: probe(host.name, interface, timeout_s), hosts, timeouts_s)
        return {host.name: answer for host, answer in zip(hosts, answers, strict=True)}


def main() -> None:
    """Prints what this host says of itself, or its complaint, on a line of JSON."""
    try:
        print(json.dumps(look()))
    except UserError as error:
        print(json.dumps(str(error)))


if __name__ == "__main__":
    main()
