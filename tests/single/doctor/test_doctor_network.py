import itertools
import json
import time
from pathlib import Path

import pytest
from made_up_hosts import VERSIONS, cluster

from hvd_imagenet.doctor import network
from hvd_imagenet.doctor.network import Measured, Pair, check_measurable, check_network, measure
from hvd_imagenet.doctor.pairs import rounds

HOSTS = ["node1", "node2", "node3"]


def pair(one: int, other: int, latency_us: float = 30.0, megabytes_per_s: float = 1000.0) -> Pair:
    return Pair((f"node{one}", f"node{other}"), latency_us / 1e6, megabytes_per_s * 1e6)


@pytest.mark.parametrize("size", range(2, 18))
def test_everyone_meets_everyone_once_and_one_at_a_time(size: int) -> None:
    every = rounds(size)
    assert sorted(itertools.chain(*every)) == list(itertools.combinations(range(size), 2))
    for pairs in every:
        ranks = list(itertools.chain(*pairs))
        assert len(ranks) == len(set(ranks)) >= size - 1


def test_a_network_without_fault() -> None:
    measured = Measured((pair(1, 2), pair(1, 3, 40, 900), pair(2, 3)), 45)
    (finding,) = check_network(HOSTS, measured)
    assert finding.status == "ok"
    assert finding.message == "3 pairs, the slowest 900 MB/s (node1 and node3), at most 40 µs a message"


def test_pairs_that_do_not_reach_each_other() -> None:
    (finding,) = check_network(HOSTS, Measured((pair(1, 2),), 45, said="node3: no route"))
    assert finding.status == "error"
    assert finding.message == (
        "2 of 3 pairs of hosts could not be measured within 45 s, the first: node2 and node3 (node3: no route)"
    )
    assert finding.remedy.endswith("or name the network that they share: --network-interface IF")


@pytest.mark.parametrize(
    ("slow", "name", "message", "remedy"),
    [
        (
            (pair(1, 2), pair(1, 3, 30, 90), pair(2, 3, 30, 100), pair(1, 4), pair(2, 4), pair(3, 4, 30, 110)),
            "bandwidth",
            "node1 and node3: 90 MB/s, where half of the pairs have 555; 2 more such pairs",
            "look at the cable, the switch port, the duplex mode and the load of node3",
        ),
        (
            (pair(1, 2), pair(1, 3, 5000), pair(2, 3)),
            "latency",
            "node1 and node3: 5,000 µs a message, where half of the pairs have 30",
            "look at the cable, the switch port, the duplex mode and the load of both hosts",
        ),
    ],
)
def test_a_pair_that_is_slower_than_most(slow: tuple[Pair, ...], name: str, message: str, remedy: str) -> None:
    hosts = ["node1", "node2", "node3", "node4"][: 4 if len(slow) == 6 else 3]
    (finding,) = check_network(hosts, Measured(slow, 45))
    assert (finding.name, finding.status, finding.message, finding.remedy) == (name, "warning", message, remedy)


def test_noise_is_no_slow_pair() -> None:
    measured = Measured((pair(1, 2), pair(1, 3, 150, 600), pair(2, 3)), 45)
    assert [finding.status for finding in check_network(HOSTS, measured)] == ["ok"]


def test_mpi4py_is_needed_to_measure() -> None:
    assert list(check_measurable(cluster(1, changed=1, versions=VERSIONS | {"mpi4py": "4.1.2"}))) == []
    (finding,) = check_measurable(cluster(3, changed=2, versions=VERSIONS | {"mpi4py": "4.1.2"}))
    assert (finding.status, finding.message) == ("warning", "not measured: no mpi4py on node1, node3")
    assert finding.remedy.endswith(" -m pip install mpi4py")


def started_as(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(network, "build_command", lambda *words, **options: ["sh", "-c", script])


def test_what_mpirun_prints_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps({"nodes": ["node1", "node2"], "latency_s": 3e-5, "bytes_per_s": 1e9})
    other = json.dumps({"nodes": ["node1", "stranger"], "latency_s": 3e-5, "bytes_per_s": 1e9})
    started_as(monkeypatch, f"echo Welcome; echo '{line}'; echo '{other}'; echo '[]'; echo warning >&2")
    measured = measure(cluster(2), None)
    assert measured == Measured((Pair(("node1", "node2"), 3e-5, 1e9),), limit_s=35)


def test_what_mpirun_says_when_it_fails_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    started_as(monkeypatch, "echo 'no way to node2' >&2; echo ------- >&2; exit 3")
    assert measure(cluster(2), None).said == "no way to node2"
    started_as(monkeypatch, "exit 3")
    assert measure(cluster(2), None).said == "exit code 3"


def test_a_measurement_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(network, "_START_S", 0)
    monkeypatch.setattr(network, "_ROUND_S", 0)
    monkeypatch.setattr(network, "_LAST_WORDS_S", 0.5)
    started_as(monkeypatch, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    began_s = time.monotonic()
    assert measure(cluster(2), None).pairs == ()
    assert time.monotonic() - began_s < 5
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
