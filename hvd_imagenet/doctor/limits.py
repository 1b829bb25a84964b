"""What the kernel lets the processes of this user, or of this container, have."""

import os
import resource
import sys
from pathlib import Path

from hvd_imagenet import control_groups
from hvd_imagenet.control_groups import groups


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
    own = sys.maxsize if os.geteuid() == 0 else _number(resource.RLIMIT_NPROC)
    return min(own, tasks_of_groups(control_groups.own_membership(), control_groups.FOLDER))


def _number(kind: int) -> int:
    limit = resource.getrlimit(kind)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def tasks_of_groups(membership: str, folder: Path) -> int:
    r"""How many processes and threads the control groups of a process may have.

    Args:
        membership: its /proc/PID/cgroup.
        folder: where the hierarchies are mounted.

    Returns:
        The least limit of its group and of those around it; sys.maxsize where there is none.

    Example:
        >>> tasks_of_groups("0::/user.slice\n", Path("/nonexistent")) == sys.maxsize
        True
    """
    files = (group / "pids.max" for group in groups(membership, folder, "pids"))
    texts = [file.read_text().strip() for file in files if file.is_file()]
    return min((int(text) for text in texts if text != "max"), default=sys.maxsize)
