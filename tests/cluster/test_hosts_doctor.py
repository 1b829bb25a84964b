"""`doctor -H` on three hosts: what it measures is what the links are, and what is wrong on a host is told."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cluster_jobs import VARIABLES
from network import Cluster
from ranks import run
from readme_commands import shown

# As it stands in README.
DOCTOR = ".venv/bin/hvd-imagenet doctor --hostfile hosts --data /data/imagenet"
MEGABITS_PER_S, DELAY_S = 200, 0.005
# Of 1,514 bytes of a full Ethernet frame 1,448 are payload.
BYTES_PER_S = MEGABITS_PER_S * 1e6 / 8 * 1448 / 1514


def doctor(cluster: Cluster, *words: str, timeout_s: float = 180) -> Any:
    command = ["hvd-imagenet", "doctor", *words]
    return run(cluster.hosts[0].command(command), timeout_s=timeout_s, **VARIABLES)


def test_doctor_measures_a_shaped_link(
    cluster: Cluster, few_digits: Path, tmp_path: Path, record_property: Any
) -> None:
    cluster.shape(MEGABITS_PER_S, DELAY_S)
    places = {"--hostfile hosts": f"--hostfile {cluster.hosts_file(1)}", "/data/imagenet": str(few_digits)}
    typed = f"{shown(DOCTOR, places)} --network-interface eth0 --json {tmp_path / 'found.json'}"
    done = run(cluster.hosts[0].command(["sh", "-c", typed]), timeout_s=180, **VARIABLES)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    table = done.stdout.split("\n\n")
    assert [line.split()[0] for line in table[0].splitlines()] == ["host", "node1", "node2", "node3"]
    assert max(map(len, "\n".join(table[:2]).splitlines())) <= 80
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["works"] is True
    assert {name: finding["status"] for finding in found["findings"] if (name := finding["name"]) in NAMES} == NAMES
    assert [host["addresses"]["eth0"] for host in found["hosts"].values()] == ["10.77.0.1", "10.77.0.2", "10.77.0.3"]
    assert {frozenset(pair["hosts"]) for pair in found["pairs"]} == {
        *(frozenset(pair) for pair in (("node1", "node2"), ("node1", "node3"), ("node2", "node3")))
    }
    for pair in found["pairs"]:
        text = f"{pair['latency_s'] * 1000:.2f} ms, {pair['bytes_per_s'] / 1e6:.1f} MB/s"
        record_property(f"{' - '.join(pair['hosts'])} at {MEGABITS_PER_S} Mbit/s and {DELAY_S * 1000:g} ms", text)
        assert DELAY_S <= pair["latency_s"] < 4 * DELAY_S, text
        # A message of 4 MiB takes the delay as well.
        assert 0.6 < pair["bytes_per_s"] / BYTES_PER_S < 1.05, text


NAMES = dict.fromkeys(
    ["versions", "data", "clock", "machines", "interface", "host name", "open files", "processes", "network"], "ok"
)

FILES = 240  # 256 + 4 a process may be needed


@pytest.fixture
def odd_hosts(cluster: Cluster, few_digits: Path, tmp_path: Path) -> Iterator[Cluster]:
    """Loopback names, node2 with other images, Docker's /dev/shm and few open files, and node3 without its cable."""
    other = shutil.copytree(few_digits, tmp_path / "other")
    next((other / "train" / "digit0").iterdir()).unlink()
    second = cluster.hosts[1].command
    cluster.name_by_loopback(True)
    cluster.plug(cluster.hosts[2], plugged=False)
    on_second = [
        second(["mount", "--bind", str(other), str(few_digits)]),
        second(["mount", "-o", "remount,size=64m", "/dev/shm"]),
    ]
    for command in on_second:
        assert run(command, timeout_s=10).returncode == 0
    # What sshd starts has its limits.
    sshd = psutil.Process(cluster.hosts[1].pid)
    limits = sshd.rlimit(psutil.RLIMIT_NOFILE)
    sshd.rlimit(psutil.RLIMIT_NOFILE, (FILES, limits[1]))
    yield cluster
    sshd.rlimit(psutil.RLIMIT_NOFILE, limits)
    run(second(["umount", str(few_digits)]), timeout_s=10)
    run(second(["mount", "-o", "remount,size=50%", "/dev/shm"]), timeout_s=10)


def test_doctor_says_what_is_wrong_on_a_host(odd_hosts: Cluster, few_digits: Path) -> None:
    done = doctor(odd_hosts, "-H", "node1:1,node2:1,node3:1,node9:1", "--data", str(few_digits), "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    messages = {finding["message"]: finding["status"] for finding in found["findings"]}
    assert messages["no report from node3"] == messages["no report from node9"] == "error"
    assert messages["node2: /dev/shm of 67 MB is small"] == "warning"
    assert messages["node2: a process may open 240 files, and one of 2 may need 264"] == "warning"
    loopback = "all 2 hosts: the own name means 127.0.1.1 there, where Gloo sends the other hosts"
    assert messages[loopback] == "warning"
    (images,) = (message for message in messages if message.startswith("not the same images: "))
    assert "92 + 23 images" in images
    assert "91 + 23 images" in images
    assert [pair["hosts"] for pair in found["pairs"]] == [["node1", "node2"]]
    remedies = " ".join(finding["remedy"] for finding in found["findings"])
    for remedy in ("it does not answer", "the name is not known", "--network-interface eth0", "--shm-size=1g"):
        assert remedy in remedies


def test_doctor_tells_soon_that_no_host_can_be_reached(cluster: Cluster) -> None:
    cluster.plug(cluster.hosts[2], plugged=False)
    began_s = time.monotonic()
    done = doctor(cluster, "-H", "node3:1,node9:1", timeout_s=60)
    assert time.monotonic() - began_s < 30
    assert done.returncode == 1
    assert done.stdout.count("no report") == 4  # a line of the table and an error each
