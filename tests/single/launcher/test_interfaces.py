import fcntl
import json
import os
import socket
import struct
import subprocess
import sys

import psutil
import pytest

from hvd_imagenet.launcher.interfaces import addresses

UP, RUNNING = 0x1, 0x40
FLAGS, ADDRESS = 0x8913, 0x8915
# name → flags and IPv4 address, as the kernel says them; eth2 goes away while it is asked
KERNEL = {
    "lo": (UP | RUNNING | 0x8, "127.0.0.1"),
    "eth0": (UP | RUNNING | 0x1002, "10.0.0.1"),
    "eth1": (UP | RUNNING, None),
    "docker0": (UP, "172.17.0.1"),
    "ib0": (0, "10.1.0.1"),
    "a-name-of-15-by": (UP | RUNNING, "10.2.0.1"),
}


def test_interfaces_that_are_down_or_without_an_ipv4_address_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def ioctl(asking: socket.socket, request: int, asked: bytes) -> bytes:
        assert len(asked) == 40
        name = asked[:16].rstrip(b"\0").decode()
        flags, address = KERNEL.get(name, (0, None))
        if request == FLAGS and name in KERNEL:
            return asked[:16] + struct.pack("H22x", flags)
        if request == ADDRESS and address is not None:
            return asked[:16] + struct.pack("HH4s16x", socket.AF_INET, 0, socket.inet_aton(address))
        raise OSError

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate([*KERNEL, "eth2"], start=1)))
    assert addresses() == {"lo": "127.0.0.1", "eth0": "10.0.0.1", "a-name-of-15-by": "10.2.0.1"}


def test_they_are_those_of_psutil() -> None:
    up = {name for name, status in psutil.net_if_stats().items() if status.isup}
    for name, all_of_it in psutil.net_if_addrs().items():
        known = [each.address for each in all_of_it if each.family == socket.AF_INET]
        if name in up and known:
            assert addresses()[name] in known
        else:
            assert name not in addresses()


def test_a_node_says_its_name_and_its_interfaces() -> None:
    command = [sys.executable, "-m", "hvd_imagenet.launcher.interfaces"]
    variables = {**os.environ, "SLURMD_NODENAME": "node7"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == ["node7", addresses()]
