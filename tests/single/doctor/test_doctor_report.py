import io
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from made_up_hosts import made_up

from hvd_imagenet.doctor import report as module
from hvd_imagenet.doctor.report import MARK, Data, Report, look, look_at_data
from hvd_imagenet.horovod_build import doctor
from hvd_imagenet.horovod_build.doctor_host import check_gpus, check_shared_memory
from hvd_imagenet.horovod_build.finding import Finding
from hvd_imagenet.launcher import machine

FINDING = Finding("mpirun", "error", "not found", "install it")


def images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_report_comes_back_as_it_was() -> None:
    for report in (made_up(1), made_up(1, data=None, findings=(FINDING,), gpus=("H200",), shared_memory_mb=None)):
        assert Report.from_json(report.as_json()) == report


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"node": "a"}', made_up(1).as_json().replace("train", "trains")])
def test_what_is_no_report(text: str) -> None:
    with pytest.raises(ValueError, match="text must be a report of hvd_imagenet "):
        Report.from_json(text)


def test_the_driver_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """nvidia-smi may take seconds."""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho asked >> {tmp_path}/log\necho 'GPU 0: H200 (UUID: GPU-1)'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(
        doctor, "checks", lambda gpus: [partial(check_shared_memory, len(gpus)), partial(check_gpus, gpus)]
    )
    monkeypatch.setattr(sys, "argv", ["report"])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    module.main()
    report = Report.from_json(capsys.readouterr().out.removeprefix(MARK))
    assert (report.machine.gpus, report.gpus) == (1, ("H200",))
    assert [finding.name for finding in report.findings] == ["shared memory", "gpus"]
    assert (tmp_path / "log").read_text() == "asked\n"


def test_a_driver_that_hangs_costs_a_host_its_gpus_and_not_its_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(machine, "_DRIVER_TIMEOUT_S", 0.1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(doctor, "checks", lambda gpus: [partial(check_shared_memory, 0), partial(check_gpus, gpus)])
    monkeypatch.setattr(sys, "argv", ["report"])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    module.main()
    report = Report.from_json(capsys.readouterr().out.removeprefix(MARK))
    assert (report.machine.gpus, report.gpus) == (0, ())
    assert [finding.name for finding in report.findings] == ["gpus", "shared memory"]
    assert report.findings[0] == Finding(
        "gpus",
        "error",
        "nvidia-smi -L: no answer within 0.1 s",
        "look for the driver's fault in dmesg, or take the CPU: CUDA_VISIBLE_DEVICES=",
    )


def test_the_same_images_at_two_places_have_one_fingerprint(tmp_path: Path) -> None:
    names = ("train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg")
    one, other = (look_at_data(images(tmp_path / place, *names)) for place in ("one", "other"))
    more = look_at_data(images(tmp_path / "more", *names, "val/b/2.jpg"))
    assert one == other
    assert (one.train, one.validation, one.problem) == (2, 1, "")
    assert (more.train, more.validation) == (2, 2)
    assert more.fingerprint != one.fingerprint


def test_images_that_are_not_there(tmp_path: Path) -> None:
    data = look_at_data(tmp_path / "none")
    assert data == Data(problem=data.problem)
    assert data.problem.startswith(f"data folder {tmp_path}/none: no such folder; ")


def test_versions_of_code_change_with_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hvd_imagenet.__file__", str(tmp_path / "__init__.py"))
    digests = []
    for text in ("a = 1", "a = 2", "a = 1"):
        (tmp_path / "b.py").write_text(text)
        digests.append(module.versions()["code"])
    assert digests[0] == digests[2] != digests[1]


def test_nccl_is_that_of_torchs_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "nvidia_nccl_cu13-2.28.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-nccl-cu13\nVersion: 2.28.9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert module.versions()["nccl"] == "2.28.9"


def test_the_program_prints_its_report_and_then_the_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "examine", lambda gpus: [FINDING])
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path)])
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    before_s = time.time()
    module.main()
    first, *times = capsys.readouterr().out.splitlines()
    report = Report.from_json(first.removeprefix(MARK))
    assert report.findings == (FINDING,)
    assert report.data is not None
    assert report.data.problem.startswith(f"data folder {tmp_path}: is empty")
    assert replace(report, findings=(), data=None, memory_mb=0) == replace(look(), memory_mb=0)
    assert all(before_s <= float(each) <= time.time() for each in times)
    assert len(times) == 2
