import os
import socket

import pytest

from hvd_imagenet.launcher import guard_link
from hvd_imagenet.launcher.guard_link import END, Link

GUARD = f"launch: the guard of rank 3 on {os.uname().nodename}"


def test_a_launch_that_cannot_be_reached(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    assert Link(address, bytes(32), rank=3).commands() == [END]
    assert capfd.readouterr().err == (
        f"{GUARD} cannot reach launch at {address} ([Errno 111] Connection refused); open the firewall between the "
        "hosts, or choose another network with --network-interface; it ends the rank\n"
    )


def test_a_launch_on_another_host_that_falls_silent(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_link, "SILENCE_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = Link(f"localhost:{server.getsockname()[1]}", bytes(32), rank=3)
        link.commands()
        assert link.commands() == [END]
    assert capfd.readouterr().err == f"{GUARD} has not heard of launch for 0 s; it ends the rank\n"
