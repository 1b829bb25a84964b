"""What each host must have enough of, and how the others reach it: pure functions over the hosts' reports."""

import ipaddress
import sys
from collections.abc import Iterator, Mapping, Sequence

from hvd_imagenet.doctor.naming import among, by_value
from hvd_imagenet.doctor.report import Report
from hvd_imagenet.horovod_build.finding import Finding
from hvd_imagenet.launcher.hosts import Host
from hvd_imagenet.launcher.machine import default_processes

# A process's own files and threads, and up to four connections to every other process (MPI, Gloo's contexts).
_OWN_FILES = 256
_FILES_A_PROCESS = 4
# A process with its guard, without the pools of threads, which all processes share the cores with: 6 with PyTorch, 10
# with Keras, counted on CPUs; CUDA and NCCL have theirs.
_TASKS_A_PROCESS = 32
_TASKS_A_CORE = 4


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def shared_interfaces(reports: Mapping[str, Report]) -> list[str]:
    """The network interfaces that hosts could talk over.

    Args:
        reports: by host.

    Returns:
        Names that all hosts have, with an address each of its own.
    """
    every = list(reports.values())
    names = [name for name in every[0].addresses if all(name in report.addresses for report in every)]
    of_name = {name: [report.addresses[name] for report in every] for name in names}
    return [
        name
        for name, addresses in of_name.items()
        if len(set(addresses)) == len(addresses) and not any(map(_is_loopback, addresses))
    ]


def _name_one(reports: Mapping[str, Report]) -> str:
    names = shared_interfaces(reports)
    return f"--network-interface {names[0]}" if names else "give it the same name on all hosts, for --network-interface"


def check_interface(reports: Mapping[str, Report], interface: str | None) -> Iterator[Finding]:
    """Whether the hosts can talk over the network interface, or over any.

    Args:
        reports: by host.
        interface: that the user has chosen; None for none.

    Returns:
        What is in the way, or one finding that nothing is.
    """
    if interface is None:
        yield from _check_addresses(reports)
        return
    lacking = [host for host, report in reports.items() if interface not in report.addresses]
    if lacking:
        others = ", ".join(sorted(reports[lacking[0]].addresses))
        message = (
            f"no {interface} that is up with an IPv4 address on {among(lacking, reports)}; {lacking[0]} has {others}"
        )
        yield Finding("interface", "error", message, f"name one that all hosts have: {_name_one(reports)}")
    elif len(reports) > 1 and any(_is_loopback(report.addresses[interface]) for report in reports.values()):
        yield Finding("interface", "error", f"{interface} reaches no other host", f"name another: {_name_one(reports)}")
    else:
        yield Finding("interface", "ok", f"every host has {interface}")


def _check_addresses(reports: Mapping[str, Report]) -> Iterator[Finding]:
    holders: dict[str, list[str]] = {}
    for host, report in reports.items():
        for address in report.addresses.values():
            if not _is_loopback(address):
                holders.setdefault(address, []).append(host)
    twice = {address: hosts for address, hosts in holders.items() if len(hosts) > 1}
    for address, hosts in twice.items():
        name = next(name for name, its in reports[hosts[0]].addresses.items() if its == address)
        yield Finding(
            "interface",
            "warning",
            f"{name} has {address} on {among(hosts, reports)}: MPI may take it for a way to the others",
            f"name the network between the hosts: {_name_one(reports)}",
        )
    if not twice:
        names = shared_interfaces(reports)
        yield Finding("interface", "ok", f"every host has {names[0]}" if names else "each address is one host's alone")


def check_names(reports: Mapping[str, Report], interface: str | None) -> Iterator[Finding]:
    """Whether each host's own name means an address that the others reach, and is its alone.

    Args:
        reports: by host.
        interface: that the user has chosen, which Gloo then uses in place of the name; None for none.

    Returns:
        What is in the way, or one finding that nothing is.
    """
    nodes = {host: report.node for host, report in reports.items()}
    amiss = []
    if len(set(nodes.values())) < len(nodes):
        called = {host: f"{node!r}" for host, node in nodes.items() if list(nodes.values()).count(node) > 1}
        message = f"several hosts have one name, and Open MPI takes them for one: {by_value(called)}"
        remedy = "hostnamectl set-hostname NAME on each, or list each host once"
        amiss.append(Finding("host name", "error", message, remedy))
    if len(reports) > 1 and interface is None:
        amiss += _check_addresses_of_names(reports)
    yield from amiss
    if not amiss:
        yield Finding("host name", "ok", f"Gloo uses {interface} in place of names" if interface else "reached by name")


def _check_addresses_of_names(reports: Mapping[str, Report]) -> Iterator[Finding]:
    amiss: dict[str, list[str]] = {}
    for host, report in reports.items():
        if report.name_address is None:
            amiss.setdefault("does not resolve there, and Gloo asks for its address", []).append(host)
        elif _is_loopback(report.name_address):
            amiss.setdefault(f"means {report.name_address} there, where Gloo sends the other hosts", []).append(host)
    for trouble, hosts in amiss.items():
        yield Finding(
            "host name",
            "warning",
            f"{among(hosts, reports)}: the own name {trouble}",
            f"launch … {_name_one(reports)}, or give the name its outward address in /etc/hosts there",
        )


def check_limits(reports: Mapping[str, Report], processes: Mapping[str, int]) -> Iterator[Finding]:
    """Whether there may be as many files, connections, processes and threads as are needed (ulimit -n, -u; containers).

    Args:
        reports: by host.
        processes: of the job, by host.

    Returns:
        What is in the way, or two findings that nothing is.
    """
    yield _check_files(reports, sum(processes.values()))
    yield _check_tasks(reports, processes)


def _check_files(reports: Mapping[str, Report], processes: int) -> Finding:
    needed = _OWN_FILES + _FILES_A_PROCESS * processes
    least = min(report.open_files for report in reports.values())
    few = [host for host, report in reports.items() if report.open_files < needed]
    if not few:
        return Finding("open files", "ok", f"at least {least} a process")
    return Finding(
        "open files",
        "warning",
        f"{among(few, reports)}: a process may open {least} files, and one of {processes} may need {needed}",
        "raise nofile in /etc/security/limits.conf, or LimitNOFILE of slurmd's unit; docker run --ulimit nofile=…",
    )


def _check_tasks(reports: Mapping[str, Report], processes: Mapping[str, int]) -> Finding:
    needed = {
        host: _TASKS_A_PROCESS * processes[host] + _TASKS_A_CORE * report.machine.cores
        for host, report in reports.items()
    }
    few = [host for host, report in reports.items() if report.tasks < needed[host]]
    if not few:
        least = min(report.tasks for report in reports.values())
        return Finding("processes", "ok", "no limit" if least == sys.maxsize else f"at least {least}, with threads")
    worst = min(few, key=lambda host: reports[host].tasks)
    return Finding(
        "processes",
        "warning",
        f"{among(few, reports)}: there may be {reports[worst].tasks} processes and threads, and a job with "
        f"{processes[worst]} processes there may need {needed[worst]}",
        "raise nproc in /etc/security/limits.conf, or TasksMax of the unit or slice; docker run --pids-limit=…",
    )


def check_machines(hosts: Sequence[Host], reports: Mapping[str, Report]) -> Iterator[Finding]:
    """Whether the hosts are alike, and have what their slots promise.

    Args:
        hosts: with their slots, as the user has listed them.
        reports: by host.

    Returns:
        What is in the way, or one finding that nothing is.
    """
    gpus = {host: _gpus(report) for host, report in reports.items()}
    if len(set(gpus.values())) > 1:
        yield Finding(
            "gpus", "warning", f"not the same: {by_value(gpus)}", "the slowest sets the pace; list like hosts"
        )
    slots = {host.name: host.slots or 0 for host in hosts}
    over = {host: report for host, report in reports.items() if slots[host] > default_processes(report.machine)}
    for host, report in over.items():
        message = (
            f"{host} is listed with {slots[host]} slots and has {default_processes(report.machine)} {_units(report)}"
        )
        yield Finding("slots", "warning", message, "list one slot a GPU, or a core where there is none")
    if len(set(gpus.values())) == 1 and not over:
        total = sum(default_processes(report.machine) for report in reports.values())
        yield Finding("machines", "ok", f"{len(reports)} alike, {total} {_units(next(iter(reports.values())))}")


def _gpus(report: Report) -> str:
    return f"{len(report.gpus)} ({', '.join(sorted(set(report.gpus)))})" if report.gpus else "no GPU"


def _units(report: Report) -> str:
    return "GPUs" if report.machine.gpus else "cores"
