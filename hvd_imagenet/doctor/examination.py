"""All checks of several hosts, in the order in which they are shown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hvd_imagenet.doctor.asking import Answer, ask_all
from hvd_imagenet.doctor.comparing import (
    check_clocks,
    check_data,
    check_own_findings,
    check_reached,
    check_versions,
)
from hvd_imagenet.doctor.network import Measured, check_measurable, check_network, limit_s, measure
from hvd_imagenet.doctor.report import Report
from hvd_imagenet.doctor.resources import (
    check_interface,
    check_limits,
    check_machines,
    check_names,
)
from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build.finding import Finding
from hvd_imagenet.launcher.hosts import Host
from hvd_imagenet.launcher.machine import default_processes


class Examined(NamedTuple):
    """What was found on the hosts.

    Args:
        answers: by host; a string, why, where there is no report.
        measured: the network between them; None where it could not be measured.
        findings: in the order in which they are shown.
    """

    answers: Mapping[str, Answer | str]
    measured: Measured | None
    findings: Sequence[Finding]


def examine_hosts(
    hosts: Sequence[Host], data: Path | None, interface: str | None, say: Callable[[str], None]
) -> Examined:
    """Asks all hosts, compares what they say, and measures the network between those that answer.

    Args:
        hosts: with their slots.
        data: folder of images that each must have; None for none.
        interface: network interface that each must have; None for any.
        say: shows a line of progress.

    Returns:
        What was found.

    Raises:
        UserError: there is no ssh here.
    """
    say(f"doctor: asking {len(hosts)} host{'s' if len(hosts) > 1 else ''}")
    answers = ask_all(hosts, None if data is None else data.absolute())
    answered = {host: answer for host, answer in answers.items() if isinstance(answer, Answer)}
    refused = {host: answer for host, answer in answers.items() if isinstance(answer, str)}
    findings = list(check_reached(refused))
    measured = None
    if answered:
        findings += compare(hosts, answered, interface)
        reports = {host: answer.report for host, answer in answered.items()}
        obstacles = list(check_measurable(reports))
        findings += obstacles
        if len(reports) > 1 and not obstacles and _can_start(reports, interface):
            say(f"doctor: measuring the network between {len(reports)} hosts ({limit_s(len(reports))} s at most)")
            try:
                measured = measure(reports, interface)
                findings += check_network(list(reports), measured)
            except UserError as error:  # no mpirun here, or one that is not understood
                message, _, remedy = str(error).partition("; ")
                findings.append(Finding("network", "warning", f"not measured: {message}", remedy))
    return Examined(answers, measured, findings)


def _can_start(reports: Mapping[str, Report], interface: str | None) -> bool:
    """Whether mpirun can tell the hosts apart and finds the interface on each; else there is an error already."""
    nodes = {report.node for report in reports.values()}
    there = all(interface is None or interface in report.addresses for report in reports.values())
    return len(nodes) == len(reports) and there


def compare(hosts: Sequence[Host], answers: Mapping[str, Answer], interface: str | None) -> Iterator[Finding]:
    """All comparisons of what hosts have answered.

    Args:
        hosts: with their slots, as the user has listed them.
        answers: of those that have answered, at least one.
        interface: that each must have; None for any.

    Returns:
        The findings.
    """
    reports = {host: answer.report for host, answer in answers.items()}
    processes = {
        host.name: host.slots or default_processes(reports[host.name].machine) for host in hosts if host.name in reports
    }
    yield from check_versions(reports)
    yield from check_data(reports)
    yield from check_clocks(answers)
    yield from check_machines(hosts, reports)
    yield from check_interface(reports, interface)
    yield from check_names(reports, interface)
    yield from check_limits(reports, processes)
    yield from check_own_findings(reports)
