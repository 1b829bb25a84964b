"""Command, machine, date and commit of a result, as they were when the run began."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What a run itself writes, and text: they change no figure.
NO_CODE = (":(exclude)benchmarks/results", ":(exclude)*.md")


def provenance(processes: str) -> dict[str, str]:
    """What a result file says of its run; processes: how many there were, of how many threads."""
    return {"command": _COMMAND, "machine": f"{cpu_name()}, {os.cpu_count()} cores; {processes}", **_BEGUN}


def commit(root: Path = ROOT) -> str:
    """Of the checkout that holds this file, wherever it is called from; -dirty where its code is another."""
    name = _git(root, "rev-parse", "--short", "HEAD")
    if not name:
        return "unknown"
    changed = _git(root, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "--", ".", *NO_CODE)
    return f"{name}-dirty" if changed else name


def cpu_name() -> str:
    names = [line.split(":")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return names[0].strip() if names else platform.machine()


def _git(root: Path, *words: str) -> str:
    try:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""


# At the import: while a run takes its hour somebody may commit, and midnight may come.
_COMMAND = "python " + " ".join(sys.argv)
_BEGUN = {"date": time.strftime("%Y-%m-%d"), "commit": commit()}
