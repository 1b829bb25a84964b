"""What a job listens on. Needs the Horovod that install-horovod builds."""

import ipaddress
import socket
from pathlib import Path

import psutil
import pytest
from security_jobs import LAUNCHERS, listening, waiting_job

# The only sockets open to other hosts, which Open MPI opens whatever it is told (README, "Open doors").
OPEN_MPI = {"prterun", "prte", "prted", "mpirun", "orted"}


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


@pytest.mark.parametrize("name", LAUNCHERS)
def test_only_open_mpis_launcher_listens_on_more_than_loopback(name: str, tmp_path: Path) -> None:
    with waiting_job(LAUNCHERS[name], tmp_path) as job:
        opened = [(one.name(), *where) for one in job.processes() for where in listening(one)]
        job.finish()
    outside = [(process, address) for process, address, _ in opened if not is_loopback(address)]
    assert {process for process, _ in outside} <= OPEN_MPI, outside
    # It is known what Open MPI opens: its daemons' connections, once for IPv4 and once for IPv6, on any address.
    assert len(outside) <= 2, outside
    if name.endswith("-gloo"):
        assert not outside
        assert opened, "the rendezvous server was not found"


def test_services_listen_on_the_addresses_of_their_interfaces_alone() -> None:
    from horovod.runner.common.util import network, secret

    service = network.BasicService("a service", secret.make_secret_key(), {"lo"})
    try:
        assert {ip for ip, port in listening(psutil.Process()) if port == service.get_port()} == {"127.0.0.1"}
        assert service.addresses() == {"lo": [("127.0.0.1", service.get_port())]}
        network.BasicClient("a service", service.addresses(), service._wire._key, 0)
    finally:
        service.shutdown()


def test_stores_listen_on_loopback_unless_told() -> None:
    from horovod.runner.http.http_server import KVStoreServer, RendezvousServer

    rendezvous, store = RendezvousServer(), KVStoreServer(0, b"key")
    ports = {rendezvous.start(), store.start_server()}
    try:
        assert {ip for ip, port in listening(psutil.Process()) if port in ports} == {"127.0.0.1"}
    finally:
        rendezvous.stop()
        store.shutdown_server()


def test_the_interface_towards_a_host_is_that_of_the_route() -> None:
    from horovod.runner.util.network import interface_towards, interfaces_towards

    assert interface_towards("127.0.0.2") == "lo"
    for name, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if one.family == socket.AF_INET:
                assert interface_towards(one.address) == name
    assert interface_towards("no-such-host.invalid") is None
    assert interfaces_towards(["no-such-host.invalid", "127.0.0.1"]) == {"lo"}
