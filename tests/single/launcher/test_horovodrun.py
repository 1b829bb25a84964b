from pathlib import Path
from typing import Any

import pytest
from kept_memory import MEMORY

from hvd_imagenet.launcher.horovodrun import horovodrun_command
from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.start import Start
from hvd_imagenet.launcher.tuning import Tuning

CPU = Machine(cores=2, gpus=0, whole=True)
SERVER = Machine(cores=64, gpus=8, whole=True)
TRAIN = ["python", "-m", "hvd_imagenet", "train", "--out", "a b"]

# What is asked for → the list that must come out, word for word.
GOLDEN: dict[str, tuple[dict[str, Any], str]] = {
    "this machine": (
        {"processes": 2, "machine": CPU, "terminal": True},
        f"env OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 {MEMORY} HOROVOD_CYCLE_TIME=20 HVD_IMAGENET_TERMINAL=1 "
        "HOROVOD_GLOO_TIMEOUT_SECONDS=600 horovodrun --gloo --disable-cache --start-timeout 600 -np 2",
    ),
    "two hosts, the second with one process fewer": (
        {
            "processes": 7,
            "machine": SERVER,
            "places": [Place("node1", 4), Place("node2", 3)],
            "interface": "eth1",
        },
        "env OMP_NUM_THREADS=16 TF_NUM_INTRAOP_THREADS=16 HOROVOD_GLOO_TIMEOUT_SECONDS=600 "
        "horovodrun --gloo --disable-cache --start-timeout 600 -np 7 -H node1:4,node2:3 --network-interface eth1",
    ),
    # 240 s are wanted from 32 hosts on; there are 600 s for any number of them.
    **{
        f"{hosts} hosts": (
            {"processes": hosts, "machine": SERVER, "places": [Place(f"n{host}", 1) for host in range(hosts)]},
            "env OMP_NUM_THREADS=64 TF_NUM_INTRAOP_THREADS=64 HOROVOD_GLOO_TIMEOUT_SECONDS=600 "
            f"horovodrun --gloo --disable-cache --start-timeout 600 -np {hosts} -H "
            + ",".join(f"n{host}:1" for host in range(hosts)),
        )
        for hosts in (31, 32)
    },
    "a longer time to start": (
        {"processes": 1, "machine": SERVER, "start_timeout_s": 899.5, "environment": {"OMP_NUM_THREADS": "7"}},
        "env TF_NUM_INTRAOP_THREADS=64 HOROVOD_GLOO_TIMEOUT_SECONDS=600 "
        "horovodrun --gloo --disable-cache --start-timeout 900 -np 1",
    ),
    "autotuning and a timeline": (
        {"processes": 2, "machine": CPU, "chosen": Tuning(timeline=Path("/tmp/t"), autotune=True)},
        f"env OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 {MEMORY} HOROVOD_TIMELINE=/tmp/t HOROVOD_AUTOTUNE=1 "
        "HOROVOD_GLOO_TIMEOUT_SECONDS=600 horovodrun --gloo --disable-cache --start-timeout 600 -np 2",
    ),
    "variables that --env names": (
        {
            "processes": 2,
            "machine": SERVER,
            "environment": {"MY_DATA": "hunter2", "HOROVOD_PASS_ENV": "MY_DATA,WANDB_*"},
        },
        "env OMP_NUM_THREADS=32 TF_NUM_INTRAOP_THREADS=32 HOROVOD_GLOO_TIMEOUT_SECONDS=600 "
        "HOROVOD_PASS_ENV=MY_DATA,WANDB_* horovodrun --gloo --disable-cache --start-timeout 600 -np 2",
    ),
    "the user's own settings stay, and no value of theirs is written out": (
        {
            "processes": 1,
            "machine": SERVER,
            "environment": {
                "OMP_NUM_THREADS": "7",
                "TF_NUM_INTRAOP_THREADS": "7",
                "HOROVOD_GLOO_TIMEOUT_SECONDS": "30",
                "HOROVOD_START_TIMEOUT": "90",
                "WANDB_API_KEY": "hunter2",
            },
        },
        "env horovodrun --gloo --disable-cache -np 1",
    ),
}


@pytest.mark.parametrize(("given", "expected"), GOLDEN.values(), ids=GOLDEN.keys())
def test_command(given: dict[str, Any], expected: str) -> None:
    assert horovodrun_command("horovodrun", Start(command=TRAIN, **given)) == expected.split() + TRAIN
