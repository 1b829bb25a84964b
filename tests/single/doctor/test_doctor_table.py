import json
from dataclasses import replace

import pytest
from made_up_hosts import VERSIONS, answers, cluster, made_up

from hvd_imagenet.doctor.network import Pair
from hvd_imagenet.doctor.report import Data
from hvd_imagenet.doctor.table import as_json, as_table
from hvd_imagenet.horovod_build.finding import Finding

PAIR = Pair(("node1", "node2"), 35e-6, 1650e6)


def test_the_table() -> None:
    reports = cluster(
        3, changed=2, versions=VERSIONS | {"torch": "2.14.0"}, shared_memory_mb=64, data=Data(problem="x")
    )
    shown = as_table({**answers(reports, 0.0154), "node4": "ssh is refused"}, None, [PAIR])
    assert shown.splitlines() == [
        "host               address         cores gpus  shm MB clock ms data     versions",
        "node1              10.0.0.1            4    0    4000        0 8c41f2aa same",
        "node2              10.0.0.2            4    0      64        0 missing  torch",
        "node3              10.0.0.3            4    0    4000      +15 8c41f2aa same",
        "node4              no report",
        "",
        "pair                                     latency µs      MB/s",
        "node1 - node2                                    35     1,650",
    ]


def test_long_names_and_values_stay_within_80_columns() -> None:
    long = "gpu-worker-0123456789.rack-17.example.org"
    versions = VERSIONS | {"horovod build": "b", "torch": "2", "numpy": "3"}
    report = made_up(1, addresses={"eth0": "192.168.100.200"}, shared_memory_mb=2_000_000, versions=versions, data=None)
    pair = Pair((long, f"{long}.too"), 0.123456, 123e9)
    lines = as_table(answers({long: report, **cluster(2)}, -86400.0), None, [pair]).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1] == "gpu-worker-012345… 192.168.100.200     4    0 2000000        0 -        3 differ"


def test_the_address_of_the_chosen_interface() -> None:
    report = made_up(1, addresses={"lo": "127.0.0.1", "eth0": "10.0.0.1", "ib0": "10.1.0.1"})
    for interface, address in [(None, "10.0.0.1"), ("ib0", "10.1.0.1"), ("ib7", "none")]:
        assert as_table(answers({"node1": report}), interface, []).splitlines()[1].split()[1] == address


@pytest.mark.parametrize("hosts", [6, 7])
def test_of_many_pairs_the_slowest_are_shown(hosts: int) -> None:
    pairs = [
        Pair((f"node{first}", f"node{second}"), 1e-5, 1e9 + first) for first in range(hosts) for second in range(first)
    ]
    lines = as_table({}, None, pairs).splitlines()
    assert lines[2].startswith(f"pair (the slowest 12 of {len(pairs)})")
    assert len(lines) == 3 + 12
    assert lines[3].startswith("node1 - node0")


def test_everything_in_json() -> None:
    reports = {"node1": replace(made_up(1), findings=(Finding("a", "ok", "b"),))}
    error = Finding("ssh", "error", "no report from node2", "start it")
    found = json.loads(as_json({**answers(reports, 1.5), "node2": "start it"}, [PAIR], [error]))
    assert found["works"] is False
    assert found["hosts"]["node2"] == {"problem": "start it"}
    assert found["hosts"]["node1"]["clock_ahead_s"] == 1.5
    assert found["hosts"]["node1"]["machine"] == {"cores": 4, "gpus": 0, "whole": True}
    assert found["hosts"]["node1"]["data"]["train"] == 100
    assert found["pairs"] == [{"hosts": ["node1", "node2"], "latency_s": 35e-6, "bytes_per_s": 1650e6}]
    assert found["findings"] == [
        {"name": "ssh", "status": "error", "message": "no report from node2", "remedy": "start it"}
    ]
