"""`launch` over hosts costs at most a second more than the launcher by itself, without guards."""

import time
from typing import Any

import pytest
from cluster_jobs import on_first_host
from network import INTERFACE, Cluster
from ranks import without_guards

ROUNDS = 5
MOST_S = 1.0


def seconds(cluster: Cluster, words: list[str]) -> float:
    began_s = time.monotonic()
    on_first_host(cluster, words)
    return time.monotonic() - began_s


@pytest.mark.parametrize("launcher", ["mpirun", "horovodrun"])
def test_launch_over_hosts_adds_at_most_a_second(cluster: Cluster, launcher: str, record_property: Any) -> None:
    """The hosts are asked over ssh, which starts three Pythons at once on this one machine; the least counts."""
    words = ["--launcher", launcher, "--network-interface", INTERFACE, "--hosts", str(cluster.hosts_file(1))]
    command = ["hvd-imagenet", "launch", *words]
    line = without_guards(on_first_host(cluster, [*command, "--dry-run", "--", "true"]).stdout)
    both = [(seconds(cluster, [*command, "--", "true"]), seconds(cluster, ["sh", "-c", line])) for _ in range(ROUNDS)]
    ours_s, bare_s = (min(times) for times in zip(*both, strict=True))
    text = f"{ours_s:.2f} s, {launcher} by itself {bare_s:.2f} s"
    record_property(f"start and end of 3 hosts, {launcher}", text)
    print(text)
    assert ours_s - bare_s <= MOST_S, text
