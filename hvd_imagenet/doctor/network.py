"""The network between the hosts: has MPI measure it, and says what is slow."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hvd_imagenet.doctor.naming import named
from hvd_imagenet.doctor.pairs import rounds
from hvd_imagenet.doctor.report import Report
from hvd_imagenet.horovod_build.finding import Finding
from hvd_imagenet.launcher.allowed_environment import allowed_environment
from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.local import build_command
from hvd_imagenet.launcher.machine import Machine

_START_S = 30
_ROUND_S = 5
_LAST_WORDS_S = 10
# A pair is slow where it needs so many times the median's time.
_SLOW = 2.0
# Below this, latencies differ by what else a host does.
_LATENCY_NOISE_S = 100e-6
_ONE_PROCESS = Machine(cores=1, gpus=0, whole=False)


class Pair(NamedTuple):
    """The way between two hosts.

    Args:
        hosts: by the names that the user has given them.
        latency_s: time of a small message, one way.
        bytes_per_s: of large messages, one way at a time.
    """

    hosts: tuple[str, str]
    latency_s: float
    bytes_per_s: float


class Measured(NamedTuple):
    """What MPI has measured.

    Args:
        pairs: those that were measured.
        limit_s: the time that there was.
        said: the last line of what mpirun has said; empty where all has gone well.
    """

    pairs: tuple[Pair, ...]
    limit_s: int
    said: str = ""


def limit_s(hosts: int) -> int:
    """The time after which a measurement is given up.

    Args:
        hosts: how many there are.

    Returns:
        Seconds; a good network needs a fifth of it.

    Example:
        >>> limit_s(3), limit_s(64)
        (45, 345)
    """
    return _START_S + _ROUND_S * len(rounds(hosts))


def measure(reports: Mapping[str, Report], interface: str | None) -> Measured:
    """Measures the network between each two hosts, with a process on each.

    Args:
        reports: by host, two or more; each has mpi4py and a name of its own.
        interface: network interface between the hosts; None for any.

    Returns:
        What could be measured.

    Raises:
        UserError: there is no mpirun, or one that is not understood.
    """
    hosts = list(reports)
    time_s = limit_s(len(hosts))
    environment = allowed_environment(os.environ)
    command = build_command(
        len(hosts), [sys.executable, "-m", "hvd_imagenet.doctor.pairs", str(time_s)], _ONE_PROCESS,
        environment=environment, places=[Place(host, 1) for host in hosts], interface=interface,
    )  # fmt: skip
    with tempfile.TemporaryFile() as lines, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=lines, stderr=errors, start_new_session=True
        )
        code = _wait(process, time_s + _LAST_WORDS_S)
        lines.seek(0)
        errors.seek(0)
        host_of = {report.node: host for host, report in reports.items()}
        pairs = tuple(_pairs(lines.read().decode(errors="replace"), host_of))
        said = [line for line in errors.read().decode(errors="replace").splitlines() if any(map(str.isalnum, line))]
        return Measured(pairs, time_s, "" if code == 0 else (said or [f"exit code {code}"])[-1].strip())


def _wait(process: "subprocess.Popen[bytes]", timeout_s: float) -> int:
    """The exit code; mpirun is asked to end its processes where it does not end in time, or this program is ended."""
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return -1
    finally:
        process.terminate()
        try:
            process.wait(_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _pairs(text: str, host_of: Mapping[str, str]) -> Iterator[Pair]:
    """The lines that `pairs` has printed; a login shell may have printed others."""
    for line in text.splitlines():
        try:
            found = json.loads(line)
            one, other = (host_of[node] for node in found["nodes"])
        except (ValueError, KeyError, TypeError):
            continue
        yield Pair((one, other), found["latency_s"], found["bytes_per_s"])


def check_measurable(reports: Mapping[str, Report]) -> Iterator[Finding]:
    """Whether the network can be measured.

    Args:
        reports: by host.

    Returns:
        What is in the way; nothing where nothing is.
    """
    lacking = [host for host, report in reports.items() if report.versions.get("mpi4py", "none") == "none"]
    if lacking:
        remedy = f"{sys.executable} -m pip install mpi4py"
        yield Finding("network", "warning", f"not measured: no mpi4py on {named(lacking)}", remedy)


def check_network(hosts: Sequence[str], measured: Measured) -> Iterator[Finding]:
    """Whether all hosts reach all others, each two about as well as any other two.

    Args:
        hosts: those that were to be measured, two or more.
        measured: what was.

    Returns:
        What is in the way, or one finding that nothing is.
    """
    done = {frozenset(pair.hosts) for pair in measured.pairs}
    every = [(hosts[first], hosts[second]) for pairs in rounds(len(hosts)) for first, second in pairs]
    missing = [pair for pair in every if frozenset(pair) not in done]
    if missing:
        said = f" ({measured.said})" if measured.said else ""
        yield Finding(
            "network",
            "error",
            f"{len(missing)} of {len(every)} pairs of hosts could not be measured within {measured.limit_s} s, the "
            f"first: {' and '.join(missing[0])}{said}",
            "open all TCP ports between the hosts, or name the network that they share: --network-interface IF",
        )
    slow = list(_check_slow(measured.pairs)) if len(measured.pairs) > 2 else []
    yield from slow
    if not missing and not slow:
        count = f"{len(every)} pair{'s' if len(every) > 1 else ''}"
        least = min(measured.pairs, key=lambda pair: pair.bytes_per_s)
        rate = f"{least.bytes_per_s / 1e6:,.0f} MB/s ({' and '.join(least.hosts)})"
        latency_us = max(pair.latency_s for pair in measured.pairs) * 1e6
        yield Finding("network", "ok", f"{count}, the slowest {rate}, at most {latency_us:,.0f} µs a message")


def _check_slow(pairs: Sequence[Pair]) -> Iterator[Finding]:
    rate = statistics.median(pair.bytes_per_s for pair in pairs)
    narrow = sorted((pair for pair in pairs if pair.bytes_per_s < rate / _SLOW), key=lambda pair: pair.bytes_per_s)
    if narrow:
        yield _slow("bandwidth", narrow, f"{narrow[0].bytes_per_s / 1e6:,.0f} MB/s", f"{rate / 1e6:,.0f}")
    delay_s = statistics.median(pair.latency_s for pair in pairs)
    limit_s = _SLOW * delay_s + _LATENCY_NOISE_S
    far = sorted((pair for pair in pairs if pair.latency_s > limit_s), key=lambda pair: -pair.latency_s)
    if far:
        yield _slow("latency", far, f"{far[0].latency_s * 1e6:,.0f} µs a message", f"{delay_s * 1e6:,.0f}")


def _slow(name: str, pairs: Sequence[Pair], worst: str, usual: str) -> Finding:
    """What is said of slow pairs, the slowest first; they may have one host in common."""
    others = f"; {len(pairs) - 1} more such pairs" if len(pairs) > 1 else ""
    common = frozenset.intersection(*(frozenset(pair.hosts) for pair in pairs))
    where = f"of {next(iter(common))}" if len(common) == 1 else "of both hosts"
    return Finding(
        name,
        "warning",
        f"{' and '.join(pairs[0].hosts)}: {worst}, where half of the pairs have {usual}{others}",
        f"look at the cable, the switch port, the duplex mode and the load {where}",
    )
