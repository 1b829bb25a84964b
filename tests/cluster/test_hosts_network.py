"""The hosts are what the other tests take them for."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from network import NAMES, Cluster, Host, why_not

SERVE = """
import socket
with socket.create_server(("", 5000)) as server:
    print("ready", flush=True)
    for _ in range(2):
        connection = server.accept()[0]
        while received := connection.recv(1 << 20):
            if received == b"?":
                connection.send(b"!")
        connection.close()
"""
MEASURE = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 5000)) as connection:
    times = []
    for _ in range(20):
        began_s = time.perf_counter()
        connection.send(b"?")
        connection.recv(1)
        times.append(time.perf_counter() - began_s)
with socket.create_connection((sys.argv[1], 5000)) as connection:
    began_s = time.perf_counter()
    connection.sendall(bytes(40_000_000))
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
    print(sorted(times)[10], 40.0 / (time.perf_counter() - began_s))
"""


HOLD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from network import Cluster
with Cluster(Path(sys.argv[2])) as cluster:
    print(*(host.pid for host in cluster.hosts), flush=True)
    sys.stdin.read()
"""


def on(host: Host, *words: str) -> str:
    done = subprocess.run(host.command(words), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_who_is_not_root_is_told_why_there_are_no_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert why_not() == "hosts in network namespaces need root"


def test_a_container_without_privileges_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\necho 'unshare: Operation not permitted' >&2\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert why_not() == "no namespaces here (unshare: Operation not permitted); a container needs --privileged for them"


def test_every_host_has_its_name_and_lets_the_others_in(cluster: Cluster) -> None:
    for host in cluster.hosts:
        assert [on(host, "ssh", name, "hostname") for name in NAMES] == list(NAMES)


def test_names_may_be_those_of_the_loopback(cluster: Cluster) -> None:
    cluster.name_by_loopback(True)
    for host in cluster.hosts:
        assert on(host, "getent", "hosts", host.name).split() == ["127.0.1.1", host.name]
        assert on(host, "ssh", host.name, "hostname") == host.name


def round_trip_s_and_megabytes_per_s(cluster: Cluster) -> tuple[float, float]:
    """From node1 to node2 and back; of 40 MB from node1 to node2."""
    server = subprocess.Popen(
        cluster.hosts[1].command([sys.executable, "-c", SERVE]), stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    server.stdout.readline()
    round_trip_s, rate = map(float, on(cluster.hosts[0], sys.executable, "-c", MEASURE, "node2").split())
    assert server.wait(timeout=10) == 0
    return round_trip_s, rate


def test_links_are_as_slow_as_they_are_shaped(cluster: Cluster) -> None:
    cluster.shape(megabits_per_s=200, delay_s=0.005)
    round_trip_s, rate = round_trip_s_and_megabytes_per_s(cluster)
    assert round_trip_s == pytest.approx(0.010, abs=0.003)
    assert rate == pytest.approx(25, rel=0.15)
    cluster.unshape()
    round_trip_s, rate = round_trip_s_and_megabytes_per_s(cluster)
    assert round_trip_s < 0.003
    assert rate > 100


def test_a_cable_may_be_pulled(cluster: Cluster) -> None:
    cluster.plug(cluster.hosts[2], plugged=False)
    words = ["ssh", "-o", "ConnectTimeout=2", "node3", "true"]
    assert subprocess.run(cluster.hosts[0].command(words), capture_output=True, check=False).returncode == 255
    cluster.plug(cluster.hosts[2], plugged=True)
    assert on(cluster.hosts[0], "ssh", "node3", "hostname") == "node3"


def test_hosts_end_with_the_process_that_has_made_them(cluster: Cluster, tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(Path(__file__).parent), str(tmp_path)]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    first_processes = [psutil.Process(int(word)) for word in holder.stdout.readline().split()]
    assert len(first_processes) == len(NAMES)
    sleeper = subprocess.Popen(Host("node1", "", first_processes[0].pid).command(["sleep", "100"]))
    holder.kill()
    holder.wait()
    assert psutil.wait_procs(first_processes, timeout=10)[1] == []
    assert sleeper.wait(timeout=10) != 0
