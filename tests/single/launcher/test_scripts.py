"""The shell scripts of launch/ with a launcher that only says what it was given; tests/cluster runs the real ones."""

import os
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[3] / "launch"
SAY = """#!/bin/sh
echo "${0##*/} $*"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which the scripts find horovodrun and mpirun."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("horovodrun", "mpirun"):
        (programs / name).write_text(SAY)
        (programs / name).chmod(0o755)
    return tmp_path


def run_script(checkout: Path, name: str, hosts: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs a script with a file of hosts in a shell without any settings."""
    (checkout / "my hosts").write_text(hosts)
    return subprocess.run(
        [str(LAUNCH / name), "--seed", "1"], cwd=checkout, env={"PATH": os.defpath, "HOSTS": "my hosts", **variables},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "processes", "hosts"),
    [
        ((LAUNCH / "hosts.example").read_text(), 24, "node1:8,node2:8,node3:8"),
        ("# a rack\n\nnode1:8\n\tnode2 slots = 4 # slow\n  \nslots1.example slots=16 max_slots=32", 28,
         "node1:8,node2:4,slots1.example:16"),
    ],
)  # fmt: skip
def test_horovodrun_gets_the_hosts_of_the_file(checkout: Path, text: str, processes: int, hosts: str) -> None:
    done = run_script(checkout, "horovodrun.sh", text)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"horovodrun --gloo -np {processes} -H {hosts} --start-timeout 600 --gloo-timeout-seconds 600 "
        "hvd-imagenet train --seed 1\n"
    )


NO_SLOTS = "node2 has no number of slots, which horovodrun wants; write: node2 slots=8"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("node1:8\nnode2\nnode3\n", NO_SLOTS),
        ("node2 max_slots=4\n", NO_SLOTS),
        ("node2:0\n", NO_SLOTS),
        ("node1:8\nnode2:\n", NO_SLOTS),
        ("# none yet\n", "no host in it; write one a line, as in: node1 slots=8"),
    ],
)
def test_hosts_that_horovodrun_could_not_be_given(checkout: Path, text: str, why: str) -> None:
    done = run_script(checkout, "horovodrun.sh", text)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: my hosts: {why}\n")
