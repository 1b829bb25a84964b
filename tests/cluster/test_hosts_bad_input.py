"""What cannot start is told in one line with the remedy, soon, and leaves nothing on any host."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_jobs import VARIABLES
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


@pytest.fixture
def odd_hosts(cluster: Cluster) -> Iterator[Cluster]:
    """An address without sshd, an interface that only node1 has, and node3 without its cable."""
    cluster.on_switch("ip", "address", "replace", f"{NOBODY}/24", "dev", "switch")
    first = cluster.hosts[0].command
    run(first(["ip", "link", "add", "eth1", "type", "bridge"]), timeout_s=10)
    run(first(["ip", "address", "add", "10.78.0.1/24", "dev", "eth1"]), timeout_s=10)
    cluster.plug(cluster.hosts[2], plugged=False)
    yield cluster
    run(first(["ip", "link", "del", "eth1"]), timeout_s=10)
    cluster.on_switch("ip", "address", "del", f"{NOBODY}/24", "dev", "switch")


@pytest.mark.parametrize("case", list(CASES))
def test_bad_input_is_told_in_one_line(odd_hosts: Cluster, tmp_path: Path, case: str) -> None:
    options, parts = CASES[case]
    began_s = time.monotonic()
    done = run(
        odd_hosts.hosts[0].command(["hvd-imagenet", "launch", *options, "--", "train", "--out", str(tmp_path / "run")]),
        timeout_s=60,
        **VARIABLES,
    )
    assert time.monotonic() - began_s < WITHIN_S
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
