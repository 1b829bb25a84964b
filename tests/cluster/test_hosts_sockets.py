"""What a job on several hosts listens on: the chosen interface alone, but for what Open MPI opens."""

import ipaddress
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from cluster_jobs import VARIABLES
from network import Cluster, Host
from ranks import end_tree, user_environment

WITHIN_S = 90
RANKS = 6
# Joins, says so by a file, and stays in the job until the file `go` is there.
RANK = """
import pathlib, sys, time
import torch
import horovod.torch as hvd

folder = pathlib.Path(sys.argv[1])
hvd.init()
hvd.allreduce(torch.ones(1), name="joined")
(folder / f"rank{hvd.rank()}").touch()
while hvd.allreduce(torch.tensor([float((folder / "go").exists())]), op=hvd.Sum).item() == 0:
    time.sleep(0.1)
"""
OPEN_MPI = {"prterun", "prted", "mpirun"}


def listening(host: Host) -> set[tuple[str, str]]:
    """Who listens on a host, and at which address: Open MPI's daemons, ranks, and what else is ours."""
    words = ["nsenter", f"--target={host.pid}", "--net", "--", "ss", "-H", "-ltnp"]
    found = set()
    for line in subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines():
        address = line.split()[3].rpartition(":")[0].strip("[]").split("%")[0]
        for name, pid in re.findall(r'\("([^"]+)",pid=(\d+)', line):
            who = "rank" if "rank.py" in " ".join(psutil.Process(int(pid)).cmdline()[:2]) else name
            found.add((who, "0.0.0.0" if address == "*" else address))
    return {each for each in found if each[0] != "sshd"}


@pytest.mark.parametrize("launcher", ["mpirun", "horovodrun"])
def test_sockets_of_a_job_on_several_hosts(cluster: Cluster, tmp_path: Path, launcher: str) -> None:
    (tmp_path / "rank.py").write_text(RANK)
    words = ["hvd-imagenet", "launch", "--launcher", launcher, "--hosts", str(cluster.hosts_file())]
    words += ["--network-interface", "eth0", "--", sys.executable, str(tmp_path / "rank.py"), str(tmp_path)]
    errors = (tmp_path / "errors").open("w+")
    job = subprocess.Popen(
        cluster.hosts[0].command(words), env=user_environment(**VARIABLES), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
    )  # fmt: skip
    try:
        give_up_at_s = time.monotonic() + WITHIN_S
        while len(list(tmp_path.glob("rank[0-9]*"))) < RANKS:
            assert time.monotonic() < give_up_at_s, (tmp_path / "errors").read_text()
            assert job.poll() is None, (tmp_path / "errors").read_text()
            time.sleep(0.1)
        found = {host: listening(host) for host in cluster.hosts}
        (tmp_path / "go").touch()
        assert job.wait(timeout=WITHIN_S) == 0, (tmp_path / "errors").read_text()
    finally:
        errors.close()
        if job.poll() is None:
            end_tree(job.pid)
    for host, sockets in found.items():
        open_to_all = {who for who, address in sockets if ipaddress.ip_address(address).is_unspecified}
        assert open_to_all <= (OPEN_MPI | {"rank"} if launcher == "mpirun" else set()), sockets
        chosen = {address for _, address in sockets if not ipaddress.ip_address(address).is_unspecified}
        assert chosen <= {host.address, "127.0.0.1"}, sockets
    assert any(address == cluster.hosts[0].address for _, address in found[cluster.hosts[0]]), "no monitor was found"
