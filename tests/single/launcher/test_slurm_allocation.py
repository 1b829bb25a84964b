import os
from pathlib import Path

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.membership import Wanted, members
from hvd_imagenet.launcher.slurm import (
    Allocation,
    allocation,
    check_interface_of_nodes,
    node_names,
    own_address,
    place,
)

BASE = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_CPUS_PER_NODE": "4(x2)"}


@pytest.mark.parametrize(
    ("variables", "expected", "processes"),
    [
        ({}, Allocation("7", "node[1-2]", (4, 4)), 8),
        ({"SLURM_NTASKS": "6"}, Allocation("7", "node[1-2]", (4, 4), tasks=6), 6),
        ({"SLURM_CPUS_PER_TASK": "2"}, Allocation("7", "node[1-2]", (4, 4), cpus_per_task=2), 4),
        ({"SLURM_JOB_CPUS_PER_NODE": "64,32"}, Allocation("7", "node[1-2]", (64, 32)), 96),
        ({"SLURM_GPUS_ON_NODE": "3"}, Allocation("7", "node[1-2]", (4, 4), gpus=3), 6),
        ({"SLURM_GPUS_PER_NODE": "h200:2"}, Allocation("7", "node[1-2]", (4, 4), gpus=2), 4),
        ({"SLURM_GPUS": "h200:6"}, Allocation("7", "node[1-2]", (4, 4), gpus=3), 6),
        ({"SLURM_GPUS": "6", "SLURM_GPUS_ON_NODE": "2"}, Allocation("7", "node[1-2]", (4, 4), gpus=2), 4),
    ],
)
def test_what_the_environment_says(variables: dict[str, str], expected: Allocation, processes: int) -> None:
    found = allocation(BASE | variables)
    assert found == expected
    assert found.default_processes == processes


@pytest.mark.parametrize("missing", BASE)
def test_outside_of_an_allocation(missing: str) -> None:
    assert allocation({name: value for name, value in BASE.items() if name != missing}) is None


@pytest.mark.parametrize(
    ("cpus", "cpus_per_task", "processes", "expected"),
    [
        ((4, 4), None, 5, [3, 2]),
        ((4, 4), None, 1, [1]),
        ((8, 2), None, 6, [4, 2]),
        ((8, 2), None, 10, [8, 2]),
        ((8, 8), 4, 4, [2, 2]),
        ((8, 8), 4, 5, [3, 2]),
    ],
)
def test_processes_are_spread_evenly(
    cpus: tuple[int, ...], cpus_per_task: int | None, processes: int, expected: list[int]
) -> None:
    given = Allocation("7", "node[1-2]", cpus, cpus_per_task=cpus_per_task)
    places = place(given, ["node1", "node2"], processes)
    assert places == [Place(f"node{number + 1}", each) for number, each in enumerate(expected)]


def test_more_processes_than_the_allocation_has_room_for() -> None:
    with pytest.raises(UserError) as caught:
        place(Allocation("7", "node[1-2]", (4, 4)), ["node1", "node2"], 9)
    assert str(caught.value) == (
        "-np 9: Slurm's job 7 has 8 CPUs on node[1-2]; lower -np, or ask for more: sbatch --ntasks=9 …"
    )


@pytest.mark.parametrize(
    ("cpus", "cpus_per_task", "processes", "cores"),
    [
        ((8, 6), None, (2, 2), 6),
        ((8, 2), None, (4, 2), 4),
        ((8, 6), 2, (3, 3), 6),
        ((8, 6), 2, (2, 1), 4),
        ((8, 8), 4, (3, 2), 6),
        ((2, 8), None, (0, 1), 8),
    ],
)
def test_what_processes_of_a_node_share(
    cpus: tuple[int, ...], cpus_per_task: int, processes: tuple[int, ...], cores: int
) -> None:
    names = ["n1", "n2"]
    places = [Place(name, number) for name, number in zip(names, processes, strict=True) if number]
    given = Allocation("7", "n[1-2]", cpus, cpus_per_task=cpus_per_task, gpus=2)
    assert given.machine(names, places) == Machine(cores=cores, gpus=2, whole=True)


def fake_scontrol(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str = "scontrol") -> None:
    """Puts a scontrol, or another program, on PATH that runs a shell script."""
    (folder / name).write_text("#!/bin/sh\n" + text)
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_members_of_an_allocation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_scontrol(
        tmp_path,
        monkeypatch,
        f'echo "$@" >> {tmp_path}/words\n[ "$2" = node ] && echo "NodeName=$3 NodeAddr=127.0.0.1" && exit\n'
        "echo node1; echo node2",
    )
    monkeypatch.setenv("SLURMD_NODENAME", "node1")
    given = Allocation("7", "node[1-2]", (4, 4))
    assert node_names(given) == ["node1", "node2"]
    found = members(Wanted(processes=5, allocation=given), None, print)
    assert found == (5, Machine(3, 0, True), (Place("node1", 3), Place("node2", 2)), "127.0.0.1")
    assert (tmp_path / "words").read_text().splitlines()[1:] == ["show hostnames node[1-2]", "show node node2"]


def test_a_job_on_this_host_alone_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("SLURMD_NODENAME", "node1")
    assert own_address(["node1"]) is None


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo 'slurm_load_node error: Unable to contact slurm controller' >&2; exit 1",
            "launch: scontrol show node node2 fails (it says: slurm_load_node error: Unable to contact slurm "
            "controller); see: scontrol ping",
        ),
        (
            "echo 'NodeName=node2 NodeAddr=256.0.0.1'",
            "launch: node node2 of Slurm's job has the address 256.0.0.1, which this host cannot reach "
            "(Name or service not known); start launch on a node of the job, with sbatch",
        ),
    ],
)
def test_nodes_that_cannot_be_asked_or_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, message: str
) -> None:
    fake_scontrol(tmp_path, monkeypatch, script)
    with pytest.raises(UserError) as caught:
        own_address(["node2"])
    assert str(caught.value) == message


def test_a_controller_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_scontrol(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr("hvd_imagenet.launcher.slurm._SCONTROL_TIMEOUT_S", 0.1)
    with pytest.raises(UserError, match=r"launch: Slurm's controller does not answer within 0.1 s; see: scontrol ping"):
        own_address(["node2"])


def test_without_scontrol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UserError, match="launch: scontrol is not on PATH; it comes with srun"):
        node_names(Allocation("7", "node[1-2]", (4, 4)))


# What five nodes print in a step; the first is this host, which is not asked.
ON_NODES = """
echo "$@" > "$0.words"
env > "$0.variables"
echo "a prolog's line"
for node in 2 3; do echo "[\\"node$node\\", {\\"lo\\": \\"127.0.0.1\\", \\"eth0\\": \\"10.0.0.$node\\"}]"; done
case $* in *node4*) echo '["node4", {"ib0": "10.1.0.4"}]' ;; esac
exit 1  # node5 did not start it
"""
NODES = [f"node{number}" for number in range(1, 6)]
FIVE = Allocation("7", "node[1-5]", (4,) * 5)


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A srun that answers for the nodes; returns its path."""
    monkeypatch.setenv("SLURMD_NODENAME", "node1")
    monkeypatch.setenv("WANDB_API_KEY", "hunter2")
    fake_scontrol(tmp_path, monkeypatch, ON_NODES, name="srun")
    return tmp_path / "srun"


@pytest.mark.parametrize(
    ("interface", "without"),
    [("ib0", "node2 has eth0, lo; node3 has eth0, lo"), ("eth0", "node4 has ib0"), ("lo", "node4 has ib0")],
)
def test_an_interface_that_a_node_does_not_have(step: Path, interface: str, without: str) -> None:
    with pytest.raises(UserError) as caught:
        check_interface_of_nodes(FIVE, NODES, interface)
    assert str(caught.value) == (
        f"--network-interface {interface}: not on all nodes of Slurm's job 7, up with an IPv4 address: {without}; "
        "name one that all of them have"
    )
    assert (
        Path(f"{step}.words")
        .read_text()
        .startswith(
            "--overlap --mpi=none --input=none --export=ALL --nodelist=node2,node3,node4,node5 --nodes=4 --ntasks=4 "
        )
    )
    assert "hunter2" not in Path(f"{step}.variables").read_text()


def test_members_of_an_allocation_have_the_interface(monkeypatch: pytest.MonkeyPatch, step: Path) -> None:
    show = '[ "$2" = node ] && echo "NodeName=$3 NodeAddr=127.0.0.1" && exit\nprintf "node%s\\n" 1 2 3 4 5'
    fake_scontrol(step.parent, monkeypatch, show)
    found = members(Wanted(processes=3, interface="eth0", allocation=FIVE), None, print)
    assert found.places == (Place("node1", 1), Place("node2", 1), Place("node3", 1))
    with pytest.raises(UserError, match="--network-interface ib0: not on all nodes of Slurm's job 7"):
        members(Wanted(processes=3, interface="ib0", allocation=FIVE), None, print)


def test_this_host_alone_needs_no_step(step: Path) -> None:
    check_interface_of_nodes(FIVE, NODES[:1], "ib0")
    assert not Path(f"{step}.words").exists()


def test_a_step_that_does_not_start(monkeypatch: pytest.MonkeyPatch, step: Path) -> None:
    step.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr("hvd_imagenet.launcher.slurm._STEP_TIMEOUT_S", 0.1)
    with pytest.raises(UserError, match=r"launch: Slurm's job 7 starts no step within 0\.1 s; see: squeue --steps"):
        check_interface_of_nodes(FIVE, NODES, "eth0")
