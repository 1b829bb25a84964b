"""What `docker run IMAGE WORDS` runs: the entry point, with programs that say their words."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ENTRYPOINT = Path(__file__).parents[2] / "docker" / "entrypoint.sh"
LAUNCH = "hvd-imagenet launch"
DIGITS = "-- train --recipe digits --data data/digits"
STUDY = (
    "python3 /usr/local/share/hvd_imagenet/benchmarks/minibatch_study.py --only FIGURE1 TABLE1 --seeds 1 "
    "--csv minibatch_study.csv --json minibatch_study.json"
)


def _say_words(path: Path) -> None:
    path.write_text('#!/bin/sh\necho "${0##*/}" "$@"\n')
    path.chmod(0o755)


def _run(tmp_path: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("hvd-imagenet", "sleep", "my-program", "python3", *variables.pop("programs", "").split()):
        _say_words(programs / name)
    (programs / "sleep").write_text("#!/bin/sh\n")
    for name in ("sh", "env"):
        (programs / name).symlink_to(shutil.which(name) or "")
    environment = {"PATH": str(programs), "HOME": str(tmp_path), **variables}
    bash = shutil.which("bash") or ""
    return subprocess.run(
        [bash, str(ENTRYPOINT), *words], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("words", "ran"),
    [
        (["--help"], "hvd-imagenet --help"),
        (["train", "--seed", "1"], "hvd-imagenet train --seed 1"),
        (["export", "--to", "keras"], "hvd-imagenet export --to keras"),  # `export` is a word of bash, too
        (["my-program", "a b"], "my-program a b"),
        (["reproduce"], STUDY),
        (["reproduce", "--seeds", "3"], f"{STUDY} --seeds 3"),
        (["digits"], f"{LAUNCH} -np 2 {DIGITS}"),
        (["digits", "-np", "4"], f"{LAUNCH} -np 4 {DIGITS}"),
        (["digits", "--", "--epochs", "1"], f"{LAUNCH} -np 2 {DIGITS} --epochs 1"),
        (["digits", "-H", "a,b", "--", "--out", "o"], f"{LAUNCH} -H a,b {DIGITS} --out o"),
    ],
)
def test_words(tmp_path: Path, words: list[str], ran: str) -> None:
    done = _run(tmp_path, *words)
    assert (done.stdout, done.stderr, done.returncode) == (f"{ran}\n", "", 0)


@pytest.mark.parametrize(
    "words", [["train"], ["evaluate"], ["digits"], ["launch", "-np", "2", "--", "train", "-H"], ["ssh-worker"]]
)
def test_image_for_gpus_without_one(tmp_path: Path, words: list[str]) -> None:
    done = _run(tmp_path, *words, HVD_IMAGENET_CUDA="13.0.2")
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr == (
        "error: this image is for NVIDIA GPUs, and this container was given none; start it with: docker run --gpus all"
        " … (it needs the NVIDIA Container Toolkit), or take the CPU: docker run --env CUDA_VISIBLE_DEVICES= …\n"
    )


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["train"], {"HVD_IMAGENET_CUDA": ""}),  # an image for CPUs
        (["train"], {"HVD_IMAGENET_CUDA": "13.0.2", "CUDA_VISIBLE_DEVICES": ""}),  # as the message says
        (["train"], {"HVD_IMAGENET_CUDA": "13.0.2", "programs": "nvidia-smi"}),  # NVIDIA's toolkit puts it there
        (["doctor"], {"HVD_IMAGENET_CUDA": "13.0.2"}),
        # The launcher of a job on other hosts needs no GPU itself.
        (["launch", "-H", "a:8", "--", "train"], {"HVD_IMAGENET_CUDA": "13.0.2"}),
        (["launch", "--hostfile", "/etc/mpi/hostfile", "--", "train"], {"HVD_IMAGENET_CUDA": "13.0.2"}),
    ],
)
def test_gpus_are_not_asked_for(tmp_path: Path, words: list[str], variables: dict[str, str]) -> None:
    done = _run(tmp_path, *words, **variables)
    assert (done.stdout, done.stderr, done.returncode) == (" ".join(["hvd-imagenet", *words]) + "\n", "", 0)


@pytest.mark.parametrize("variables", [{}, {"HVD_IMAGENET_CUDA": "13.0.2", "programs": "nvidia-smi"}])
def test_ssh_worker_without_keys(tmp_path: Path, variables: dict[str, str]) -> None:
    done = _run(tmp_path, "ssh-worker", **variables)
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr == (
        f"error: ssh-worker: no key pair in {tmp_path}/.ssh after 30 s; mount the volume in which ssh-keys has made"
        f" one, or let the MPI Operator mount its own (sshAuthMountPath: {tmp_path}/.ssh)\n"
    )


def test_it_can_be_executed() -> None:
    assert os.access(ENTRYPOINT, os.X_OK)
