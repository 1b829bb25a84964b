"""What a job on several hosts listens on: the chosen interface alone, but for what Open MPI opens."""

import ipaddress
import os
import shlex
import sys
from pathlib import Path

import pytest
from cluster_jobs import RANK, Socket, listening, started
from network import INTERFACE, Cluster, Host
from readme_commands import shown

WITHIN_S = 90
RANKS = 6
OPEN_MPI = {"prterun", "prted", "mpirun"}
# As they stand in README.
FOR_A_FIREWALL = """\
export PRTE_MCA_oob_tcp_dynamic_ipv4_ports=40000 PRTE_MCA_oob_tcp_dynamic_ipv6_ports=40000
export OMPI_MCA_btl_tcp_port_min_v4=41000 OMPI_MCA_btl_tcp_port_range_v4=64
export OMPI_MCA_btl_tcp_port_min_v6=41000 OMPI_MCA_btl_tcp_port_range_v6=64"""
PORTS_OF_DAEMONS, PORTS_OF_RANKS = {40000}, {*range(41000, 41064)}


def is_for_all(socket: Socket) -> bool:
    return ipaddress.ip_address(socket.address).is_unspecified


def sockets_of_a_job(
    cluster: Cluster, folder: Path, launcher: str, interface: list[str], **variables: str
) -> dict[Host, set[Socket]]:
    """What a job of six ranks listens on, on each host."""
    (folder / "rank.py").write_text(RANK)
    words = ["hvd-imagenet", "launch", "--launcher", launcher, "--hosts", str(cluster.hosts_file()), *interface]
    words += ["--", sys.executable, str(folder / "rank.py"), str(folder)]
    with started(cluster, words, folder, **variables) as job:
        job.wait_for(lambda: len(list(folder.glob("rank[0-9]*"))) == RANKS, "ranks", WITHIN_S)
        found = {host: listening(host) for host in cluster.hosts}
        (folder / "go").touch()
        job.finish(WITHIN_S)
    return found


@pytest.mark.parametrize("interface", [["--network-interface", INTERFACE], []], ids=["chosen", "by the routes"])
@pytest.mark.parametrize("launcher", ["mpirun", "horovodrun"])
def test_sockets_of_a_job_on_several_hosts(
    cluster: Cluster, tmp_path: Path, launcher: str, interface: list[str]
) -> None:
    found = sockets_of_a_job(cluster, tmp_path, launcher, interface)
    for host, sockets in found.items():
        open_to_all = {each.who for each in sockets if is_for_all(each)}
        assert open_to_all <= (OPEN_MPI | {"rank"} if launcher == "mpirun" else set()), sockets
        assert {each.address for each in sockets if not is_for_all(each)} <= {host.address, "127.0.0.1"}, sockets
    first = cluster.hosts[0]
    assert any(each.address == first.address for each in found[first]), "no monitor was found"


def test_sockets_for_a_firewall(cluster: Cluster, tmp_path: Path) -> None:
    """What Open MPI opens to all is at the ports that README's variables name."""
    words = shlex.split(shown(FOR_A_FIREWALL))
    variables = dict(word.split("=") for word in words if word != "export")
    assert not variables.keys() & os.environ.keys()
    found = sockets_of_a_job(cluster, tmp_path, "mpirun", ["--network-interface", INTERFACE], **variables)
    for sockets in found.values():
        to_all = [each for each in sockets if is_for_all(each)]
        of_ranks = {each.port for each in to_all if each.who == "rank"}
        of_daemons = {each.port for each in to_all if each.who != "rank"}
        assert (of_daemons, of_ranks - PORTS_OF_RANKS) == (PORTS_OF_DAEMONS, set()), sockets
        assert of_ranks
