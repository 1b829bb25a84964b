import os
import stat
from pathlib import Path
from typing import Any

import pytest
from kept_memory import MEMORY

from hvd_imagenet.launcher import local
from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.hydra import hydra_command, is_hydra, mpich_version
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.start import Start
from hvd_imagenet.launcher.tuning import Tuning

CPU = Machine(cores=2, gpus=0, whole=True)
SERVER = Machine(cores=64, gpus=8, whole=True)
TRAIN = ["python", "-m", "hvd_imagenet", "train", "--out", "a b"]

MEMORY_WORDS = MEMORY.replace("=", " ", 1)
# What is asked for → the list that must come out, word for word.
GOLDEN: dict[str, tuple[dict[str, Any], str]] = {
    "two ranks on two cores": (
        {"processes": 2, "machine": CPU, "forwarded": ["HOME"]},
        f"mpirun -n 2 -bind-to core:1 -genv OMP_NUM_THREADS 1 -genv TF_NUM_INTRAOP_THREADS 1 -genv {MEMORY_WORDS} "
        "-genv HOROVOD_CYCLE_TIME 2 -genv HOROVOD_FUSION_THRESHOLD 1048576",
    ),
    "more ranks than cores, with a terminal": (
        {"processes": 3, "machine": CPU, "terminal": True},
        f"mpirun -n 3 -bind-to none -genv OMP_NUM_THREADS 1 -genv TF_NUM_INTRAOP_THREADS 1 -genv {MEMORY_WORDS} "
        "-genv HOROVOD_CYCLE_TIME 20 -genv HOROVOD_FUSION_THRESHOLD 1048576 -genv HVD_IMAGENET_TERMINAL 1",
    ),
    "two hosts, the second with one process fewer; no value of the user's is written out": (
        {
            "processes": 7,
            "machine": SERVER,
            "places": [Place("node1", 4), Place("node2", 3)],
            "interface": "eth1",
            "environment": {"OMP_NUM_THREADS": "7", "WANDB_API_KEY": "hunter2"},
            "forwarded": ["HOME", "OMP_NUM_THREADS", "WANDB_API_KEY"],
        },
        "mpirun -n 7 -launcher ssh -hosts node1:4,node2:3 -iface eth1 -bind-to core:16 "
        "-genvlist HOME,OMP_NUM_THREADS,WANDB_API_KEY "
        "-genv TF_NUM_INTRAOP_THREADS 16 -genv HOROVOD_GLOO_IFACE eth1 -genv NCCL_SOCKET_IFNAME eth1",
    ),
    "this machine, within an allocation of Slurm": (
        {"processes": 2, "machine": CPU, "environment": {"SLURM_JOB_ID": "7", "HOROVOD_CYCLE_TIME": "1"}},
        "mpirun -n 2 -launcher fork -hosts localhost:2 -bind-to core:1 -genv OMP_NUM_THREADS 1 "
        f"-genv TF_NUM_INTRAOP_THREADS 1 -genv {MEMORY_WORDS} -genv HOROVOD_FUSION_THRESHOLD 1048576",
    ),
    "an algorithm": (
        {"processes": 1, "machine": SERVER, "chosen": Tuning(allreduce_algorithm="rabenseifner")},
        "mpirun -n 1 -bind-to core:64 -genv OMP_NUM_THREADS 64 -genv TF_NUM_INTRAOP_THREADS 64 "
        "-genv MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM reduce_scatter_allgather "
        "-genv MPIR_CVAR_ALLREDUCE_DEVICE_COLLECTIVE 0",
    ),
}


@pytest.mark.parametrize(("given", "expected"), GOLDEN.values(), ids=GOLDEN.keys())
def test_command(given: dict[str, Any], expected: str) -> None:
    assert hydra_command("mpirun", (4, 0), Start(command=TRAIN, **given)) == expected.split() + TRAIN


# What `mpirun --version` prints → whether that is Hydra, and the version of MPICH.
VERSIONS: dict[str, tuple[bool, tuple[int, ...]]] = {
    "HYDRA build details:\n    Version:                                 4.0.2\n": (True, (4, 0)),
    "HYDRA build details:\n    Version:                                 5.0.0rc1\n": (True, (5, 0)),
    "Intel(R) MPI Library for Linux* OS, Version 2021.13 Build 20240515\n": (True, ()),
    "mpirun (Open MPI) 4.1.4\n": (False, ()),
    "": (False, ()),
}


@pytest.mark.parametrize(("text", "expected"), VERSIONS.items())
def test_version(text: str, expected: tuple[bool, tuple[int, ...]]) -> None:
    assert (is_hydra(text), mpich_version(text)) == expected


@pytest.mark.parametrize(("version", "option"), [("HYDRA build details:", "-n"), ("mpirun (Open MPI) 5.0.11", "-np")])
def test_which_mpirun_it_is_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, option: str) -> None:
    mpirun = tmp_path / "mpirun"
    mpirun.write_text(f"#!/bin/sh\necho '{version}'\n")
    mpirun.chmod(mpirun.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(local, "find_mpirun", lambda: str(mpirun))
    assert local.build_command(2, ["true"], CPU, environment=os.environ)[:3] == [str(mpirun), option, "2"]
