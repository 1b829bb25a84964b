"""What the kernel lets the processes of this user, or of this container, have."""

import os
import resource
import sys
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def open_files() -> int:
    """How many files a process may have open (ulimit -n); sys.maxsize where there is no limit.

    Example:
        >>> open_files() > 0
        True
    """
    return _number(resource.RLIMIT_NOFILE)


def tasks() -> int:
    """How many processes and threads there may be: ulimit -u, which root does not have, and the control groups' limits.

    Returns:
        The least of them; sys.maxsize where there is none.

    Example:
        >>> tasks() > 0
        True
    """
    membership = _MEMBERSHIP.read_text() if _MEMBERSHIP.is_file() else ""
    own = sys.maxsize if os.geteuid() == 0 else _number(resource.RLIMIT_NPROC)
    return min(own, tasks_of_groups(membership, _CGROUPS))


def _number(kind: int) -> int:
    limit = resource.getrlimit(kind)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def tasks_of_groups(membership: str, folder: Path) -> int:
    r"""How many processes and threads the control groups of a process may have.

    Args:
        membership: its /proc/PID/cgroup; a line `NUMBER:CONTROLLERS:PATH` for each hierarchy, without controllers for
            that of version 2.
        folder: where the hierarchies are mounted, those of version 1 each in a folder of its own.

    Returns:
        The least limit of its group and of those around it; sys.maxsize where there is none.

    Example:
        >>> tasks_of_groups("0::/user.slice\n", Path("/nonexistent")) == sys.maxsize
        True
    """
    limits = [sys.maxsize]
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "pids"):
            continue
        top = folder / controllers
        group = top / path.lstrip("/")
        # In a container the path may be the host's, of which the container sees its own group alone, as the top.
        for each in (group, *group.parents[: len(group.parts) - len(top.parts)]):
            file = each / "pids.max"
            text = file.read_text().strip() if file.is_file() else "max"
            limits.append(sys.maxsize if text == "max" else int(text))
    return min(limits)
