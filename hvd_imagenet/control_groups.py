"""The control groups of a process, those of its container among them, and how much of the cores they leave it."""

import math
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def own_membership() -> str:
    """This process's /proc/PID/cgroup; empty where the kernel has no control groups."""
    return MEMBERSHIP.read_text() if MEMBERSHIP.is_file() else ""


def groups(membership: str, folder: Path, controller: str) -> Iterator[Path]:
    r"""The folders of the groups that a process is in, and of those around them.

    Args:
        membership: its /proc/PID/cgroup; a line `NUMBER:CONTROLLERS:PATH` for each hierarchy, without controllers for
            that of version 2.
        folder: where the hierarchies are mounted, those of version 1 each in a folder of its own.
        controller: cpu, pids, …

    Example:
        >>> for group in groups("0::/a/b\n", Path("/sys/fs/cgroup"), "cpu"):
        ...     print(group)
        /sys/fs/cgroup/a/b
        /sys/fs/cgroup/a
        /sys/fs/cgroup
    """
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = folder / controllers
        group = top / path.lstrip("/")
        # In a container the path may be the host's, of which the container sees its own group alone, as the top.
        yield from (group, *group.parents[: len(group.parts) - len(top.parts)])


def cpus_of_groups(membership: str, folder: Path) -> float:
    r"""How many processors' time a process may take: `docker run --cpus`, the limits of Kubernetes, Slurm's.

    Args:
        membership: as above.
        folder: as above.

    Returns:
        The least quota of its groups and of those around them; infinity where there is none.

    Example:
        >>> cpus_of_groups("0::/user.slice\n", Path("/nonexistent"))
        inf
    """
    return min(map(_quota, groups(membership, folder, "cpu")), default=math.inf)


def _quota(group: Path) -> float:
    """Of microseconds in a period, in both versions' files."""
    both, quota, period = group / "cpu.max", group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"
    if both.is_file():
        words = both.read_text().split()
    elif quota.is_file() and period.is_file():
        words = [quota.read_text().strip(), period.read_text()]
    else:
        return math.inf
    return math.inf if words[0] in ("max", "-1") else int(words[0]) / int(words[1])


def cpus() -> float:
    """The same of this process.

    Example:
        >>> cpus() > 0
        True
    """
    return cpus_of_groups(own_membership(), FOLDER)
