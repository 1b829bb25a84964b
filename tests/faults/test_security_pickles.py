"""CVE-2024-10190 and CVE-2026-31234: what a stranger sends is never unpickled, and the job goes on."""

import contextlib
import socket
import struct
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from security_jobs import (
    LAUNCHERS,
    RANKS,
    Job,
    listening,
    malicious_pickle,
    malicious_value,
    start,
    waiting_job,
)

# Every place of a key-value store whose value Horovod unpickles, or that the start of a job depends on.
PLACES = ["worker_addresses/localhost:0", "runfunc/func", "runfunc_result/0", "runfunc_result/1", "global/0", "new/key"]
FORBIDDEN = 403
# Stays in the job, whoever joins it, until the file `go` is there.
ELASTIC = """\
import pathlib, sys, time
import torch
import horovod.torch as hvd

folder = pathlib.Path(sys.argv[1])

@hvd.elastic.run
def train(state):
    while hvd.allreduce(torch.tensor([float((folder / "go").exists())]), op=hvd.Sum).item() == 0:
        (folder / f"rank{hvd.rank()}").touch()
        state.commit()
        time.sleep(0.1)

hvd.init()
train(hvd.elastic.TorchState(model=torch.nn.Linear(1, 1)))
print("rank", hvd.rank(), "of", hvd.size(), "is done", flush=True)
"""
RUN = """\
import sys, time, pathlib
import horovod

def function(folder):
    import horovod.torch as hvd
    import torch
    hvd.init()
    folder = pathlib.Path(folder)
    (folder / f"rank{hvd.rank()}").touch()
    while hvd.allreduce(torch.tensor([float((folder / "go").exists())]), op=hvd.Sum).item() == 0:
        time.sleep(0.1)
    return f"rank {hvd.rank()} of {hvd.size()} is done"

if __name__ == "__main__":
    print(*horovod.run(function, (sys.argv[1],), num_proc=2, **{sys.argv[2]: True}), sep="\\n")
"""


def send(port: int, method: str, place: str, body: bytes = b"", **headers: str) -> int:
    """Sends a request to a key-value store; the status of the answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{place}", data=body, headers=named, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def attack(ports: list[int], marker: Path) -> None:
    """Tries all that a stranger can."""
    assert ports, "no store was found"
    for port in ports:
        for place in PLACES:
            made_up = {"X_Horovod_Token": "0" * 64, "X_Horovod_Digest": "0" * 64}
            for headers in ({}, made_up):
                assert send(port, "PUT", place, malicious_value(marker), **headers) == FORBIDDEN
                assert send(port, "GET", place, **headers) == FORBIDDEN
        # A store without DELETE answers that it knows none.
        assert send(port, "DELETE", "global/0") in (FORBIDDEN, 501)
        # Python's file server, which the handler once was, must not show the working directory.
        assert send(port, "HEAD", "setup.cfg") == 501
    assert not marker.exists()


def store_ports(job: Job) -> list[int]:
    """The ports of the launcher's own process, which holds the stores."""
    return [port for _, port in listening(psutil.Process(job.process.pid))]


def test_the_pickle_would_do_its_work_if_it_were_loaded(tmp_path: Path) -> None:
    from horovod.runner.common.util import codec

    codec.loads_base64(malicious_value(tmp_path / "marker"))
    assert (tmp_path / "marker").exists()


def test_a_job_over_gloo_goes_on(tmp_path: Path) -> None:
    with waiting_job(LAUNCHERS["horovodrun-gloo"], tmp_path) as job:
        attack(store_ports(job), tmp_path / "marker")
        job.finish()
    assert not (tmp_path / "marker").exists()


@pytest.mark.long
def test_an_elastic_job_goes_on_and_still_hears_of_new_hosts(tmp_path: Path) -> None:
    """The driver tells the workers by the addresses that they have put into the store, signed."""
    script, hosts = tmp_path / "rank.py", tmp_path / "hosts"
    script.write_text(ELASTIC)
    hosts.write_text(f"#!/bin/sh\ncat {tmp_path}/list\n")
    hosts.chmod(0o755)
    (tmp_path / "list").write_text("localhost:1\n")
    launcher = [LAUNCHERS["horovodrun-gloo"][0], "--gloo", "-np", "1", "--min-np", "1", "--max-np", str(RANKS)]
    launcher += ["--host-discovery-script", str(hosts), "--network-interface", "lo"]
    with start([*launcher, sys.executable, str(script), str(tmp_path)], tmp_path) as job:
        job.wait_for("rank0")
        attack(store_ports(job), tmp_path / "marker")
        (tmp_path / "list").write_text(f"localhost:{RANKS}\n")
        job.wait_for("rank1")
        attack(store_ports(job), tmp_path / "marker")
        job.finish()
    assert not (tmp_path / "marker").exists()


@pytest.mark.long
@pytest.mark.parametrize("controller", ["use_gloo", "use_mpi"])
def test_a_function_and_its_results_are_those_of_the_job(controller: str, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(RUN)
    with start([sys.executable, str(tmp_path / "run.py"), str(tmp_path), controller], tmp_path) as job:
        job.wait_for("rank0", "rank1")
        attack(store_ports(job), tmp_path / "marker")
        job.finish()
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("object_scope", ["worker_addresses", "runfunc"])
def test_the_token_alone_opens_no_place_for_objects(object_scope: str, tmp_path: Path) -> None:
    """Whoever has overheard the token still cannot have anything unpickled."""
    from horovod.runner.common.util import secret
    from horovod.runner.elastic.rendezvous import create_rendezvous_handler
    from horovod.runner.http.http_client import put_data_into_kvstore, read_data_from_kvstore
    from horovod.runner.http.http_server import KVStoreServer, RendezvousServer

    key, seen = secret.make_secret_key(), []

    class Driver:
        def register_worker_server(self, *arguments: object) -> None:
            seen.append(arguments)

    rendezvous, store = RendezvousServer(key=key), KVStoreServer(0, key)
    elastic = object_scope == "worker_addresses"
    port = rendezvous.start(create_rendezvous_handler(Driver())) if elastic else store.start_server()
    place, token = f"{object_scope}/localhost:0", secret.rendezvous_token(key)
    try:
        body = malicious_value(tmp_path / "marker")
        assert send(port, "PUT", place, body, X_Horovod_Token=token) == FORBIDDEN
        other = secret.object_digest(key, "PUT", f"/{place}x", body)
        assert send(port, "PUT", place, body, X_Horovod_Token=token, X_Horovod_Digest=other) == FORBIDDEN
        put_data_into_kvstore("127.0.0.1", port, object_scope, "localhost:0", {"lo": [("127.0.0.1", 1)]}, key)
        assert read_data_from_kvstore("127.0.0.1", port, object_scope, "localhost:0", key) == {"lo": [("127.0.0.1", 1)]}
        assert seen == ([("localhost", 0, {"lo": [("127.0.0.1", 1)]}, key)] if elastic else [])
    finally:
        rendezvous.stop()
        if not elastic:
            store.shutdown_server()
    assert not (tmp_path / "marker").exists()


def test_a_reader_unpickles_nothing_that_a_false_store_gives_it(tmp_path: Path) -> None:
    from horovod.runner.http.http_client import read_data_from_kvstore
    from horovod.runner.http.http_server import KVStoreServer

    store = KVStoreServer(0, b"the key of another job")
    port = store.start_server()
    store.httpd.cache["runfunc"] = {"func": malicious_value(tmp_path / "marker")}
    try:
        # The false store lets everybody in, and signs with what it has.
        store.httpd.RequestHandlerClass = type(
            "Open", (store.httpd.RequestHandlerClass,), {"_comes_from_job": lambda self: True}
        )
        with pytest.raises(RuntimeError, match="digest did not match"):
            read_data_from_kvstore("127.0.0.1", port, "runfunc", "func", b"our key")
    finally:
        store.shutdown_server()
    assert not (tmp_path / "marker").exists()


def test_a_service_refuses_what_is_not_signed_and_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from horovod.runner.common.util import network, secret

    key, pickled = secret.make_secret_key(), malicious_pickle(tmp_path / "marker")
    service = network.BasicService("a service", key, {"lo"})
    messages = [
        b"\0" * secret.DIGEST_LENGTH + struct.pack("i", len(pickled)) + pickled,
        secret.compute_digest(b"another key", pickled) + struct.pack("i", len(pickled)) + pickled,
        b"\0" * secret.DIGEST_LENGTH + struct.pack("i", -1) + pickled,
        pickled,
        b"GET / HTTP/1.0\r\n\r\n",
        b"",
    ]
    try:
        for message in messages:
            with socket.create_connection(("127.0.0.1", service.get_port()), timeout=10) as connection:
                connection.sendall(message)
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(1) == b""
        assert network.BasicClient("a service", service.addresses(), key, 0).addresses() == service.addresses()
    finally:
        service.shutdown()
    assert not (tmp_path / "marker").exists()
    assert "digest did not match the message" in capfd.readouterr().err


def test_the_monitor_of_launch_goes_on_whatever_it_is_sent(tmp_path: Path) -> None:
    forged = b"0" * 32 + b"\n" + b"0" * 64 + b' {"rank": 0, "state": "dead"}\n'
    with waiting_job(LAUNCHERS["launch"], tmp_path) as job:
        ports = store_ports(job)
        assert ports, "the monitor was not found"
        for port in ports:
            for message in (malicious_pickle(tmp_path / "marker"), forged, b"x" * 100_000, b"\n" * 100, b""):
                connection = socket.create_connection(("127.0.0.1", port), timeout=10)
                with connection, contextlib.suppress(ConnectionError):
                    connection.sendall(message)
        job.finish()
    assert not (tmp_path / "marker").exists()
