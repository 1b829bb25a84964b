"""What cannot start is told in one line with the remedy, soon, and leaves nothing on any host (see `cluster`)."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_jobs import BIN, VARIABLES
from network import Cluster
from ranks import run

WITHIN_S = 30
NOBODY = "10.77.0.254"  # the switch, which has no sshd
UNKNOWN_KEY = "10.77.0.2"  # node2, whose key is known by its name alone
CASES = {
    "unknown host": (["-H", "node1:2,node9:2"], ["node9", "the name is not known"]),
    "ssh refused": (["-H", f"node1:2,{NOBODY}:2"], [NOBODY, "start sshd there"]),
    "unknown host key": (["-H", f"node1:2,{UNKNOWN_KEY}:2"], [UNKNOWN_KEY, "accept it: ssh"]),
    "no answer": (["-H", "node1:2,node3:2"], ["node3", "does not answer"]),
    "more processes than slots": (["-np", "7", "-H", "node1:2,node2:2,node3:2"], ["7", "6"]),
    "no slots": (["-H", "node1:0"], ["node1:0"]),
    "interface nowhere": (["-H", "node1:2,node2:2", "--network-interface", "ib0"], ["ib0", "eth0"]),
    "interface on one host": (["-H", "node1:2,node2:2", "--network-interface", "eth1"], ["node2", "eth1", "eth0"]),
}

# A cable from node1 to itself, so that it is up.
ETH1 = [
    "link add eth1 type veth peer name eth1-end",
    "address add 10.78.0.1/24 dev eth1",
    "link set eth1 up",
    "link set eth1-end up",
]


@pytest.fixture
def odd_hosts(cluster: Cluster) -> Iterator[Cluster]:
    """An address without sshd, an interface that only node1 has, and node3 without its cable."""
    cluster.on_switch("ip", "address", "replace", f"{NOBODY}/24", "dev", "switch")
    first = cluster.hosts[0].command
    for words in ETH1:
        assert run(first(["ip", *words.split()]), timeout_s=10).returncode == 0
    cluster.plug(cluster.hosts[2], plugged=False)
    yield cluster
    run(first(["ip", "link", "del", "eth1"]), timeout_s=10)
    cluster.on_switch("ip", "address", "del", f"{NOBODY}/24", "dev", "switch")


@pytest.mark.parametrize("launcher", ["auto", "horovodrun"])
@pytest.mark.parametrize("case", list(CASES))
def test_bad_input_is_told_in_one_line(odd_hosts: Cluster, tmp_path: Path, case: str, launcher: str) -> None:
    options, parts = CASES[case]
    is_told(odd_hosts, ["--launcher", launcher, *options], parts, tmp_path)


def is_told(cluster: Cluster, options: list[str], parts: list[str], tmp_path: Path, **variables: str) -> None:
    """Runs `launch` on node1, which must end soon with one line that has some parts."""
    own = [f"{name}={value}" for name, value in variables.items()]
    words = ["env", *own, str(BIN / "hvd-imagenet"), "launch", *options, "--", "train", "--out", str(tmp_path / "run")]
    began_s = time.monotonic()
    done = run(cluster.hosts[0].command(words), timeout_s=60, **VARIABLES)
    assert time.monotonic() - began_s < WITHIN_S
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
    assert not (tmp_path / "run").exists()


# What Slurm tells a job.
IN_A_JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_CPUS_PER_NODE": "2(x2)"}
NO_CONTROLLER = "ClusterName=test\nSlurmctldHost=node3(10.77.0.3)\nAuthType=auth/none\nNodeName=node[1-2] CPUs=2\n"


def test_a_scheduler_that_is_not_there(cluster: Cluster, tmp_path: Path) -> None:
    parts = ["--launcher srun: there is no srun on PATH", "name the hosts with -H"]
    is_told(cluster, ["--launcher", "srun"], parts, tmp_path, PATH=str(BIN))


def test_a_scheduler_that_is_not_there_any_more(cluster: Cluster, tmp_path: Path) -> None:
    """Inside a job whose Slurm has been taken off the node."""
    parts = ["--launcher auto: there is no srun on PATH", "--launcher local"]
    is_told(cluster, [], parts, tmp_path, PATH=str(BIN), **IN_A_JOB)


def test_a_scheduler_that_does_not_answer(cluster: Cluster, tmp_path: Path) -> None:
    """Slurm's programs are there, and nothing listens at their controller's address."""
    assert shutil.which("srun"), "install slurm-client, as `make test-cluster` does"
    (tmp_path / "slurm.conf").write_text(NO_CONTROLLER)
    variables = {"SLURM_CONF": str(tmp_path / "slurm.conf"), **IN_A_JOB}
    is_told(cluster, [], ["launch: ", "see: scontrol ping"], tmp_path, **variables)
