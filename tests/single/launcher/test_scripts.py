"""The shell scripts of launch/ with a launcher that only says what it was given; tests/cluster runs the real ones."""

import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[3] / "launch"
SAY = """#!/bin/sh
echo "${0##*/} $*"
"""
TELL = """#!/bin/sh
echo "$OMP_NUM_THREADS $HOROVOD_CYCLE_TIME $*"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which the scripts find horovodrun and mpirun, and another for the rest of PATH."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("horovodrun", "mpirun"):
        (programs / name).write_text(SAY)
        (programs / name).chmod(0o755)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "awk").symlink_to(shutil.which("awk") or "")
    return tmp_path


def run_script(checkout: Path, name: str, hosts: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs a script with a file of hosts in a shell without any settings."""
    (checkout / "my hosts").write_text(hosts)
    environment = {"PATH": str(checkout / "tools"), "HOSTS": "my hosts", **variables}
    return subprocess.run(
        [str(LAUNCH / name), "--seed", "1"], cwd=checkout, env=environment, capture_output=True, text=True, timeout=60,
        check=False,
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


CYCLE_OF_USER = {"HOROVOD_CYCLE_TIME": "5"}


@pytest.mark.parametrize("name", ["horovodrun", "mpirun"])
@pytest.mark.parametrize(
    ("gpus", "variables", "cycle_time"),
    [(False, {}, "20"), (False, CYCLE_OF_USER, "5"), (True, {}, ""), (True, CYCLE_OF_USER, "5")],
)
def test_cycle_time(checkout: Path, name: str, gpus: bool, variables: dict[str, str], cycle_time: str) -> None:
    """As `launch` has it: 20 ms without GPUs, else Horovod's own, unless the user has set it."""
    programs = checkout / ".venv" / "bin"
    (programs / name).write_text(TELL)
    if gpus:
        (programs / "nvidia-smi").touch(mode=0o755)
    done = run_script(checkout, f"{name}.sh", "node1:8\n", **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"1 {cycle_time} --")
    passed_on = "-x OMP_NUM_THREADS -x HOROVOD_CYCLE_TIME hvd-imagenet" in done.stdout
    assert passed_on == (name == "mpirun" and cycle_time != "")
