"""The answers of the hosts as a table in 80 columns, and everything as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from hvd_imagenet.doctor.asking import Answer
from hvd_imagenet.doctor.comparing import unlike_most
from hvd_imagenet.doctor.network import Pair
from hvd_imagenet.doctor.report import Report
from hvd_imagenet.horovod_build.finding import Finding, works

WIDTH = 80
_HOST_COLUMNS, _PAIR_COLUMNS = 18, 39
_MOST_PAIRS = 12
_MOST_PACKAGES = 1


def as_table(answers: Mapping[str, Answer | str], interface: str | None, pairs: Sequence[Pair]) -> str:
    """Hosts and pairs, one a line.

    Args:
        answers: by host; a string where there is no report.
        interface: whose address is shown; None for the first that is not loopback.
        pairs: as measured.

    Returns:
        Lines of at most 80 characters, without a newline at the end.
    """
    reports = {host: answer.report for host, answer in answers.items() if isinstance(answer, Answer)}
    odd = _odd_packages(reports)
    lines = [_line("host", "address", "cores", "gpus", "shm MB", "clock ms", "data", "versions")]
    for host, answer in answers.items():
        if isinstance(answer, str):
            lines.append(f"{_cut(host, _HOST_COLUMNS):<{_HOST_COLUMNS}} no report")
            continue
        report = answer.report
        memory = "none" if report.shared_memory_mb is None else str(report.shared_memory_mb)
        counts = str(report.machine.cores), str(report.machine.gpus)
        ahead_ms = round(answer.clock_ahead_s * 1000)
        clock = f"{ahead_ms:+}" if ahead_ms else "0"
        lines.append(_line(host, _address(report, interface), *counts, memory, clock, _data(report), odd[host]))
    return "\n".join([*lines, *_pair_lines(pairs)])


def _line(host: str, address: str, cores: str, gpus: str, memory: str, clock: str, data: str, versions: str) -> str:
    name = _cut(host, _HOST_COLUMNS)
    line = f"{name:<{_HOST_COLUMNS}} {address:<15} {cores:>5} {gpus:>4} {memory:>7} {clock:>8} {data:<8} {versions}"
    return _cut(line.rstrip(), WIDTH)


def _cut(text: str, columns: int) -> str:
    return text if len(text) <= columns else f"{text[: columns - 1]}…"


def _address(report: Report, interface: str | None) -> str:
    if interface is not None:
        return report.addresses.get(interface, "none")
    outward = [address for address in report.addresses.values() if not address.startswith("127.")]
    return (outward or ["none"])[0]


def _data(report: Report) -> str:
    if report.data is None:
        return "-"
    return "missing" if report.data.problem else report.data.fingerprint[:8]


def _odd_packages(reports: Mapping[str, Report]) -> dict[str, str]:
    """For each host what differs there from most hosts; "same" where nothing does."""
    odd: dict[str, list[str]] = {host: [] for host in reports}
    for name in dict.fromkeys(name for report in reports.values() for name in report.versions):
        unlike = unlike_most([report.versions.get(name, "none") for report in reports.values()])
        for host, differs in zip(reports, unlike, strict=True):
            if differs:
                odd[host].append(name)
    return {
        host: "same" if not names else f"{len(names)} differ" if len(names) > _MOST_PACKAGES else ", ".join(names)
        for host, names in odd.items()
    }


def _pair_lines(pairs: Sequence[Pair]) -> list[str]:
    if not pairs:
        return []
    slowest = sorted(pairs, key=lambda pair: pair.bytes_per_s)[:_MOST_PAIRS]
    shown = pairs if len(pairs) <= _MOST_PAIRS else slowest
    title = "pair" if len(pairs) <= _MOST_PAIRS else f"pair (the slowest {len(shown)} of {len(pairs)})"
    lines = ["", f"{title:<{_PAIR_COLUMNS}} {'latency µs':>11} {'MB/s':>9}"]
    for pair in shown:
        names = _cut(" - ".join(_cut(host, _HOST_COLUMNS) for host in pair.hosts), _PAIR_COLUMNS)
        lines.append(f"{names:<{_PAIR_COLUMNS}} {pair.latency_s * 1e6:>11,.0f} {pair.bytes_per_s / 1e6:>9,.0f}")
    return lines


def as_json(answers: Mapping[str, Answer | str], pairs: Sequence[Pair], findings: Sequence[Finding]) -> str:
    """All of it as a JSON object: `works`, `hosts`, `pairs`, `findings`.

    Args:
        answers: by host; a string where there is no report.
        pairs: as measured.
        findings: of the comparison.
    """
    hosts = {
        host: {"problem": answer}
        if isinstance(answer, str)
        else {
            **asdict(answer.report),
            "machine": answer.report.machine._asdict(),
            "clock_ahead_s": answer.clock_ahead_s,
            "clock_error_s": answer.clock_error_s,
        }
        for host, answer in answers.items()
    }
    content = {
        "works": works(findings),
        "hosts": hosts,
        "pairs": [pair._asdict() for pair in pairs],
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(content, indent=2)
