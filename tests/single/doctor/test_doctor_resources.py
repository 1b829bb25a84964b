import sys
from typing import Any

import pytest
from made_up_hosts import cluster, made_up

from hvd_imagenet.doctor.resources import (
    check_interface,
    check_limits,
    check_machines,
    check_names,
    shared_interfaces,
)
from hvd_imagenet.horovod_build.finding import Finding
from hvd_imagenet.launcher.hosts import Host

LO = {"lo": "127.0.0.1"}
DOCKER = {"lo": "127.0.0.1", "docker0": "172.17.0.1"}


def test_interfaces_that_hosts_share() -> None:
    reports = cluster(2, changed=2, addresses={**LO, "eth0": "10.0.0.2", "eth1": "10.0.1.2"})
    assert shared_interfaces(reports) == ["eth0"]
    assert shared_interfaces(cluster(2, changed=2, addresses={**LO, "eth0": "10.0.0.1"})) == []


@pytest.mark.parametrize(
    ("interface", "changes", "expected"),
    [
        (None, {}, Finding("interface", "ok", "every host has eth0")),
        ("eth0", {}, Finding("interface", "ok", "every host has eth0")),
        (
            None,
            {"addresses": {**LO, "ens3": "10.0.0.2"}},
            Finding("interface", "ok", "each address is one host's alone"),
        ),
        (
            "eth0",
            {"addresses": {**LO, "ens3": "10.0.0.2"}},
            Finding(
                "interface",
                "error",
                "no eth0 that is up with an IPv4 address on node2; node2 has ens3, lo",
                "name one that all hosts have: give it the same name on all hosts, for --network-interface",
            ),
        ),
        (
            "ib0",
            {},
            Finding(
                "interface",
                "error",
                "no ib0 that is up with an IPv4 address on all 2 hosts; node1 has eth0, lo",
                "name one that all hosts have: --network-interface eth0",
            ),
        ),
        (
            "lo",
            {},
            Finding("interface", "error", "lo reaches no other host", "name another: --network-interface eth0"),
        ),
    ],
)
def test_the_network_interface(interface: str | None, changes: dict[str, Any], expected: Finding) -> None:
    assert list(check_interface(cluster(2, changed=2, **changes), interface)) == [expected]


def test_an_address_that_two_hosts_have() -> None:
    reports = {
        host: cluster(3, number, addresses={**DOCKER, "eth0": f"10.0.0.{number}"})[host]
        for number, host in [(1, "node1"), (2, "node2"), (3, "node3")]
    }
    assert list(check_interface(reports, None)) == [
        Finding(
            "interface",
            "warning",
            "docker0 has 172.17.0.1 on all 3 hosts: MPI may take it for a way to the others",
            "name the network between the hosts: --network-interface eth0",
        )
    ]
    assert [finding.status for finding in check_interface(reports, "eth0")] == ["ok"]


@pytest.mark.parametrize(
    ("address", "interface", "status", "message"),
    [
        ("10.0.0.2", None, "ok", "reached by name"),
        ("127.0.1.1", None, "warning", "node2: the own name means 127.0.1.1 there, where Gloo sends the other hosts"),
        (None, None, "warning", "node2: the own name does not resolve there, and Gloo asks for its address"),
        ("127.0.1.1", "eth0", "ok", "Gloo uses eth0 in place of names"),
    ],
)
def test_a_host_name_that_means_loopback_to_itself(
    address: str | None, interface: str | None, status: str, message: str
) -> None:
    (finding,) = check_names(cluster(3, changed=2, name_address=address), interface)
    assert (finding.name, finding.status, finding.message) == ("host name", status, message)
    if status == "warning":
        assert finding.remedy == (
            "launch … --network-interface eth0, or give the name its outward address in /etc/hosts there"
        )


def test_one_host_may_be_called_loopback() -> None:
    assert [finding.status for finding in check_names(cluster(1, changed=1, name_address="127.0.1.1"), None)] == ["ok"]


def test_two_hosts_of_one_name() -> None:
    (finding,) = check_names(cluster(3, changed=3, node="node1"), None)
    assert finding.status == "error"
    assert finding.message == "several hosts have one name, and Open MPI takes them for one: 'node1' on node1, node3"


def test_open_files() -> None:
    reports = cluster(2, changed=1, open_files=1024)
    assert next(check_limits(reports, {"node1": 96, "node2": 96})).message == "at least 1024 a process"
    finding = next(check_limits(reports, {"node1": 96, "node2": 97}))
    assert (finding.name, finding.status) == ("open files", "warning")
    assert finding.message == "node1: a process may open 1024 files, and one of 193 may need 1028"


@pytest.mark.parametrize(
    ("limits", "status", "message"),
    [
        ((sys.maxsize, sys.maxsize), "ok", "no limit"),
        ((sys.maxsize, 144), "ok", "at least 144, with threads"),  # 4 · 32 + 4 · 4
        (
            (143, 4096),
            "warning",
            "node1: there may be 143 processes and threads, and a job with 4 processes there may need 144",
        ),
        (
            (100, 60),
            "warning",
            "all 2 hosts: there may be 60 processes and threads, and a job with 4 processes there may need 144",
        ),
    ],
)
def test_processes_and_threads(limits: tuple[int, int], status: str, message: str) -> None:
    reports = {f"node{number}": made_up(number, tasks=limit) for number, limit in enumerate(limits, start=1)}
    _, finding = check_limits(reports, {"node1": 4, "node2": 4})
    assert (finding.name, finding.status, finding.message) == ("processes", status, message)


@pytest.mark.parametrize(
    ("slots", "gpus", "expected"),
    [
        (4, (), [("machines", "ok", "2 alike, 8 cores")]),
        (None, (), [("machines", "ok", "2 alike, 8 cores")]),
        (5, (), [("slots", "warning", "node2 is listed with 5 slots and has 4 cores")]),
        (4, ("H200",), [("gpus", "warning", "not the same: no GPU on node1; 1 (H200) on node2")]),
    ],
)
def test_slots_and_gpus(slots: int | None, gpus: tuple[str, ...], expected: list[tuple[str, str, str]]) -> None:
    hosts = [Host("node1", 4), Host("node2", slots)]
    findings = check_machines(hosts, cluster(2, changed=2, gpus=gpus))
    assert [(finding.name, finding.status, finding.message) for finding in findings] == expected
