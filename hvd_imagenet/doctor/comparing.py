"""What is the same on all hosts, and must be: pure functions over what the hosts have answered."""

from collections.abc import Iterator, Mapping, Sequence

from hvd_imagenet.doctor.asking import Answer
from hvd_imagenet.doctor.naming import among, by_value
from hvd_imagenet.doctor.report import Report
from hvd_imagenet.horovod_build.finding import Finding, Status

# What may differ without a change of the result, in practice; it is worth a word all the same.
_MAY_DIFFER = ("python", "numpy", "mpi4py")
_SAME_SOFTWARE = (
    "give every host the same: one checkout on a shared file system, or `make setup` of the same commit on each"
)
_CLOCK_TOLERANCE_S = 1.0
# `doctor` on one host says these with one host in mind; `names` here has its own word on the first of them.
_OF_ONE_HOST = ("host name", "root")


def check_versions(reports: Mapping[str, Report]) -> Iterator[Finding]:
    """Whether all hosts have the same software.

    Args:
        reports: by host.

    Returns:
        A finding for each package that differs, or one that all are the same.
    """
    differing = 0
    different_release = len({report.versions.get("hvd_imagenet") for report in reports.values()}) > 1
    names = list(dict.fromkeys(name for report in reports.values() for name in report.versions))
    for name in names:
        values = {host: report.versions.get(name, "none") for host, report in reports.items()}
        if len(set(values.values())) == 1 or (name == "code" and different_release):
            continue
        differing += 1
        what = "the code of hvd_imagenet" if name == "code" else name
        status: Status = "warning" if name in _MAY_DIFFER else "error"
        yield Finding("versions", status, f"{what} differs: {by_value(values)}", _SAME_SOFTWARE)
    if not differing:
        one = next(iter(reports.values())).versions
        listed = ", ".join(f"{name} {one[name]}" for name in names if name != "code" and one[name] != "none")
        yield Finding("versions", "ok", f"the same everywhere: {listed}")


def check_data(reports: Mapping[str, Report]) -> Iterator[Finding]:
    """Whether all hosts see the same images.

    Args:
        reports: by host.

    Returns:
        Nothing where no host was asked for images.
    """
    seen = {host: report.data for host, report in reports.items() if report.data is not None}
    problems: dict[str, list[str]] = {}
    for host, data in seen.items():
        if data.problem:
            problems.setdefault(data.problem.split(";")[0], []).append(host)
    for problem, hosts in problems.items():
        remedy = "the same folder must be at the same path on every host: mount or copy it there"
        yield Finding("data", "error", f"{among(hosts, reports)}: {problem}", remedy)
    good = {host: data for host, data in seen.items() if not data.problem}
    if len({data.fingerprint for data in good.values()}) > 1:
        described = {
            host: f"{data.train:,} + {data.validation:,} images ({data.fingerprint[:8]})" for host, data in good.items()
        }
        yield Finding(
            "data",
            "error",
            f"not the same images: {by_value(described)}",
            "copy the folder again where it is out of date, or use one shared file system",
        )
    elif good and not problems:
        data = next(iter(good.values()))
        yield Finding("data", "ok", f"{data.train:,} + {data.validation:,} images, the same everywhere")


def check_clocks(answers: Mapping[str, Answer]) -> Iterator[Finding]:
    """Whether the clocks agree.

    Args:
        answers: by host.

    Returns:
        A finding for each host whose clock is wrong by more than a second, or one that all agree.
    """
    wrong = 0
    for host, answer in answers.items():
        if abs(answer.clock_ahead_s) - answer.clock_error_s > _CLOCK_TOLERANCE_S:
            wrong += 1
            side = "ahead of" if answer.clock_ahead_s > 0 else "behind"
            yield Finding(
                "clock",
                "warning",
                f"{host} is {abs(answer.clock_ahead_s):.1f} s {side} this host: times in logs do not compare, and a "
                "shared file system's times mislead what looks for changes",
                "switch a time service on, there or here: timedatectl set-ntp true",
            )
    if not wrong:
        worst = max((abs(answer.clock_ahead_s) + answer.clock_error_s for answer in answers.values()), default=0.0)
        yield Finding("clock", "ok", f"all within {worst * 1000:.0f} ms of this host")


def check_own_findings(reports: Mapping[str, Report]) -> Iterator[Finding]:
    """What the hosts find amiss with themselves, the same finding of several hosts once.

    Args:
        reports: by host.

    Returns:
        Warnings and errors, in the order of the first host that has each.
    """
    hosts_of: dict[Finding, list[str]] = {}
    for host, report in reports.items():
        for finding in report.findings:
            if finding.status != "ok" and finding.name not in _OF_ONE_HOST:
                hosts_of.setdefault(finding, []).append(host)
    for finding, hosts in hosts_of.items():
        message = f"{among(hosts, reports)}: {finding.message}"
        yield Finding(finding.name, finding.status, message, finding.remedy)


def check_reached(refused: Mapping[str, str]) -> Iterator[Finding]:
    """The hosts without a report.

    Args:
        refused: host → why, with the remedy.

    Returns:
        An error for each.
    """
    for host, reason in refused.items():
        yield Finding("ssh", "error", f"no report from {host}", reason)


def unlike_most(values: Sequence[str]) -> list[bool]:
    """Which values are not the most common one.

    Args:
        values: one a host.

    Returns:
        One answer a host; of equally common values the first counts as right.

    Example:
        >>> unlike_most(["2.13.0", "2.14.0", "2.13.0"])
        [False, True, False]
    """
    most = max(values, key=values.count)
    return [value != most for value in values]
