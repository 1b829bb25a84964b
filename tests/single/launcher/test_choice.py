from pathlib import Path

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.choice import choice_notes, choose_launcher
from hvd_imagenet.launcher.slurm import Allocation

SLURM = Allocation("7", "node[1-2]", (4, 4))


@pytest.fixture
def srun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("srun")
@pytest.mark.parametrize(
    ("asked", "has_hosts", "allocation", "expected"),
    [
        ("auto", False, None, "mpirun"),
        ("auto", True, None, "mpirun"),
        ("auto", False, SLURM, "srun"),
        ("auto", True, SLURM, "mpirun"),
        ("local", False, SLURM, "mpirun"),
        ("mpirun", False, SLURM, "mpirun"),
        ("horovodrun", True, SLURM, "horovodrun"),
        ("srun", False, SLURM, "srun"),
    ],
)
def test_which(asked: str, has_hosts: bool, allocation: Allocation | None, expected: str) -> None:
    assert choose_launcher(asked, has_hosts, allocation) == expected


@pytest.mark.parametrize(
    ("asked", "has_hosts", "nodes", "is_told"),
    [
        ("mpirun", False, "node[1-2]", True),
        ("horovodrun", False, "node[1-2]", True),
        ("mpirun", False, "node2", True),  # as under salloc, whose shell is elsewhere
        ("mpirun", False, "node1", False),
        ("mpirun", True, "node[1-2]", False),
        ("local", False, "node[1-2]", False),
        ("auto", False, "node[1-2]", False),
        ("srun", False, "node[1-2]", False),
        ("mpirun", False, None, False),
    ],
)
def test_nodes_of_an_allocation_that_are_left_out(
    monkeypatch: pytest.MonkeyPatch, asked: str, has_hosts: bool, nodes: str | None, is_told: bool
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "node1")
    note = (
        f"note: --launcher {asked} without hosts starts all processes on this host; for the nodes of Slurm's job 7 "
        f"({nodes}) use --launcher srun"
    )
    given = None if nodes is None else Allocation("7", nodes, (4, 4))
    assert choice_notes(asked, has_hosts, given) == [note] * is_told


@pytest.mark.usefixtures("srun")
@pytest.mark.parametrize(
    ("asked", "has_hosts", "message"),
    [
        (
            "local",
            True,
            "--launcher local starts processes on this machine alone; leave the hosts out, or use mpirun",
        ),
        (
            "srun",
            True,
            "--launcher srun takes its hosts from Slurm's allocation; leave the list of hosts out, or use mpirun",
        ),
        (
            "srun",
            False,
            "--launcher srun: this is not inside a Slurm allocation; get one, as in: "
            "salloc --nodes=2 hvd-imagenet launch --launcher srun …",
        ),
    ],
)
def test_what_cannot_be_had(asked: str, has_hosts: bool, message: str) -> None:
    with pytest.raises(UserError) as caught:
        choose_launcher(asked, has_hosts, None)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("asked", "allocation", "remedy"),
    [("srun", None, "name the hosts with -H"), ("auto", SLURM, "use --launcher local for this node alone")],
)
def test_a_scheduler_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, asked: str, allocation: Allocation | None, remedy: str
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UserError) as caught:
        choose_launcher(asked, False, allocation)
    assert str(caught.value) == (
        f"--launcher {asked}: there is no srun on PATH; start on a host of the Slurm cluster, or {remedy}"
    )
