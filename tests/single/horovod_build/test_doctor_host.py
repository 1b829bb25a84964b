"""What `doctor` says of a host: its name, network, GPUs and memory, all made up."""

import resource
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doctor_findings import statuses

from hvd_imagenet.horovod_build import doctor_host
from hvd_imagenet.horovod_build.installed import BuildInfo


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(socket, "gethostname", lambda: "node1")
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.0.1.1")
    monkeypatch.setattr(doctor_host, "interfaces", lambda: {"lo": "127.0.0.1", "eth3": "10.0.0.7"})
    monkeypatch.delenv("HOROVOD_GLOO_IFACE", raising=False)
    return monkeypatch


def test_a_host_name_that_means_loopback(host: pytest.MonkeyPatch) -> None:
    (finding,) = doctor_host.check_host_name()
    assert finding.status == "warning"
    assert finding.message.startswith("node1 resolves to 127.0.1.1, which no other host can reach")
    assert "--network-interface eth3" in finding.remedy
    (interface,) = doctor_host.check_interface()
    assert interface.message.startswith("Gloo uses lo, ")


def test_a_host_name_with_an_outward_address(host: pytest.MonkeyPatch) -> None:
    host.setattr(socket, "gethostbyname", lambda name: "10.0.0.7")
    assert statuses(doctor_host.check_host_name()) == {"host name": "ok"}
    (interface,) = doctor_host.check_interface()
    assert interface.message.startswith("Gloo uses eth3, ")


def test_a_host_name_that_does_not_resolve(host: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> str:
        raise socket.gaierror("unknown")

    host.setattr(socket, "gethostbyname", fails)
    (finding,) = doctor_host.check_host_name()
    assert (finding.status, "node1 does not resolve" in finding.message) == ("warning", True)


def test_an_interface_that_is_not_there(host: pytest.MonkeyPatch) -> None:
    host.setenv("HOROVOD_GLOO_IFACE", "ib0")
    (finding,) = doctor_host.check_interface()
    assert finding.status == "error"
    assert "there are: lo 127.0.0.1, eth3 10.0.0.7" in finding.message
    host.setenv("HOROVOD_GLOO_IFACE", "eth3")
    assert statuses(doctor_host.check_interface()) == {"interface": "ok"}


@pytest.mark.parametrize(
    ("names", "torch", "status", "message"),
    [
        ([], "2.13.0+cpu", "ok", "none"),
        (
            ["H200"],
            "2.13.0+cu130",
            "error",
            "1 (H200), but Horovod was built without GPU operations: it cannot reduce what is on a GPU",
        ),
        (["H200"], "2.13.0+cpu", "warning", "1 (H200), but torch 2.13.0+cpu is a build for the CPU alone"),
    ],
)
def test_gpus(site: Any, names: list[str], torch: str, status: str, message: str) -> None:
    site.add("torch", torch)
    (finding,) = doctor_host.check_gpus(names)
    assert (finding.status, finding.message) == (status, message)


def test_gpus_that_horovod_was_built_for(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("torch", "2.13.0+cu130")
    build = BuildInfo("key", {"torch": "2.13.0+cu130"}, inputs={"environment": [["HOROVOD_GPU_OPERATIONS", "NCCL"]]})
    monkeypatch.setattr(doctor_host, "read_build_info", lambda: build)
    (finding,) = doctor_host.check_gpus(["H200", "H200"])
    assert (finding.status, finding.message) == ("ok", "2 (H200)")


def test_memory_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses(doctor_host.check_cores())["cores"] == "ok"
    monkeypatch.setattr(doctor_host, "_LITTLE_MEMORY_MB", 10**12)
    assert statuses(doctor_host.check_cores())["memory"] == "warning"


@pytest.mark.parametrize(
    ("blocks", "gpus", "status", "message"),
    [
        (15625, 0, "warning", "/dev/shm of 64 MB is small"),
        (62500, 1, "ok", "/dev/shm of 256 MB"),
        (62500, 2, "warning", "/dev/shm of 256 MB is small"),
        (None, 0, "warning", "there is no /dev/shm"),
    ],
)
def test_shared_memory(
    monkeypatch: pytest.MonkeyPatch, blocks: int | None, gpus: int, status: str, message: str
) -> None:
    def statvfs(path: Path) -> Any:
        if blocks is None:
            raise FileNotFoundError(path)
        return SimpleNamespace(f_frsize=4096, f_blocks=blocks)

    monkeypatch.setattr("os.statvfs", statvfs)
    (finding,) = doctor_host.check_shared_memory(gpus)
    assert (finding.status, finding.message) == (status, message)


@pytest.mark.parametrize(
    ("devices", "limit", "messages"),
    [
        (["mlx5_0"], 64_000, ["a process may lock 64 kB, too little for InfiniBand's buffers"]),
        (["mlx5_0"], resource.RLIM_INFINITY, []),
        ([], 64_000, []),
    ],
)
def test_locked_memory_matters_to_infiniband(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, devices: list[str], limit: int, messages: list[str]
) -> None:
    for device in devices:
        (tmp_path / device).mkdir()
    monkeypatch.setattr(doctor_host, "_INFINIBAND", tmp_path)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    assert [finding.message for finding in doctor_host.check_locked_memory()] == messages
