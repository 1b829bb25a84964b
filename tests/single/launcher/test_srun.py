from pathlib import Path
from typing import Any

import pytest
from kept_memory import MEMORY

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.srun import check_pmix, srun_command
from hvd_imagenet.launcher.start import Start
from hvd_imagenet.launcher.tuning import Tuning

CPU = Machine(cores=2, gpus=0, whole=True)
SERVER = Machine(cores=64, gpus=8, whole=True)
TRAIN = ["python", "-m", "hvd_imagenet", "train", "--out", "a b"]
TWO = [Place("node1", 2), Place("node2", 2)]

# What is asked for → the list that must come out, word for word.
GOLDEN: dict[str, tuple[dict[str, Any], str]] = {
    "two nodes of two cores": (
        {"processes": 4, "machine": CPU, "places": TWO, "forwarded": ["HOME", "HVD_IMAGENET_MONITOR", "SLURM_CONF"]},
        f"env OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 {MEMORY} HOROVOD_CYCLE_TIME=20 PMIX_MCA_psec=native "
        "OMPI_MCA_mpi_yield_when_idle=1 "
        "srun --mpi=pmix --nodes=2 --ntasks=4 --cpus-per-task=1 --kill-on-bad-exit=1 --input=none "
        "--export=GLIBC_TUNABLES,HOME,HOROVOD_CYCLE_TIME,HVD_IMAGENET_MONITOR,OMPI_MCA_mpi_yield_when_idle,OMP_NUM_THREADS,"
        "PMIX_MCA_psec,TF_NUM_INTRAOP_THREADS",
    ),
    "one process on a node, with a terminal": (
        {"processes": 1, "machine": CPU, "places": [Place("node1", 1)], "terminal": True},
        f"env OMP_NUM_THREADS=2 TF_NUM_INTRAOP_THREADS=2 {MEMORY} HOROVOD_CYCLE_TIME=2 "
        "HOROVOD_FUSION_THRESHOLD=1048576 HVD_IMAGENET_TERMINAL=1 PMIX_MCA_psec=native "
        "OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl=^tcp "
        "srun --mpi=pmix --nodes=1 --ntasks=1 --cpus-per-task=2 --kill-on-bad-exit=1 --input=none "
        "--export=GLIBC_TUNABLES,HOROVOD_CYCLE_TIME,HOROVOD_FUSION_THRESHOLD,HVD_IMAGENET_TERMINAL,OMPI_MCA_btl,"
        "OMPI_MCA_mpi_yield_when_idle,OMP_NUM_THREADS,PMIX_MCA_psec,TF_NUM_INTRAOP_THREADS",
    ),
    "servers of GPUs, an interface; the user's own settings stay, and no value of theirs is written out": (
        {
            "processes": 15,
            "machine": SERVER,
            "places": [Place("node1", 8), Place("node2", 7)],
            "interface": "eth1",
            "environment": {"OMP_NUM_THREADS": "7", "PMIX_MCA_psec": "munge", "WANDB_API_KEY": "hunter2"},
            "forwarded": ["OMP_NUM_THREADS", "WANDB_API_KEY"],
        },
        "env TF_NUM_INTRAOP_THREADS=8 HOROVOD_GLOO_IFACE=eth1 NCCL_SOCKET_IFNAME=eth1 "
        "OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_tcp_if_include=eth1 "
        "srun --mpi=pmix --nodes=2 --ntasks=15 --cpus-per-task=8 --kill-on-bad-exit=1 --input=none "
        "--export=HOROVOD_GLOO_IFACE,NCCL_SOCKET_IFNAME,OMPI_MCA_btl_tcp_if_include,OMPI_MCA_mpi_yield_when_idle,"
        "OMP_NUM_THREADS,TF_NUM_INTRAOP_THREADS,WANDB_API_KEY",
    ),
    "an algorithm and a timeline, in a step": (
        {
            "processes": 1,
            "machine": SERVER,
            "places": [Place("node1", 1)],
            "environment": {"OMPI_MCA_btl": "self,tcp", "SLURM_STEP_ID": "0"},
            "chosen": Tuning(Path("/tmp/timeline.json"), allreduce_algorithm="ring"),
        },
        "env OMP_NUM_THREADS=64 TF_NUM_INTRAOP_THREADS=64 HOROVOD_TIMELINE=/tmp/timeline.json "
        "PMIX_MCA_psec=native OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_coll=^han,hcoll,ucc "
        "OMPI_MCA_coll_tuned_use_dynamic_rules=1 OMPI_MCA_coll_tuned_allreduce_algorithm=4 "
        "srun --mpi=pmix --nodes=1 --ntasks=1 --cpus-per-task=64 --kill-on-bad-exit=1 --input=none "
        "--overlap "
        "--export=HOROVOD_TIMELINE,OMPI_MCA_coll,OMPI_MCA_coll_tuned_allreduce_algorithm,"
        "OMPI_MCA_coll_tuned_use_dynamic_rules,OMPI_MCA_mpi_yield_when_idle,OMP_NUM_THREADS,PMIX_MCA_psec,"
        "TF_NUM_INTRAOP_THREADS",
    ),
}


@pytest.mark.parametrize(("given", "expected"), GOLDEN.values(), ids=GOLDEN.keys())
def test_command(given: dict[str, Any], expected: str) -> None:
    assert srun_command("srun", Start(command=TRAIN, **given)) == expected.split() + TRAIN


@pytest.mark.parametrize(
    "listing",
    [
        "MPI plugin types are...\n\tcray_shasta\n\tnone\n\tpmi2\n\tpmix\n"
        "specific pmix plugin versions available: pmix_v4\n",
        "srun: MPI types are...\nsrun: none\nsrun: pmix\n",
    ],
)
def test_pmix_is_found(listing: str) -> None:
    check_pmix(listing)


@pytest.mark.parametrize(
    ("listing", "there"),
    [("MPI plugin types are...\n\tcray_shasta\n\tnone\n\tpmi2\n", "cray_shasta, none, pmi2"), ("", "no such list")],
)
def test_a_slurm_without_pmix(listing: str, there: str) -> None:
    with pytest.raises(UserError) as caught:
        check_pmix(listing)
    assert str(caught.value) == (
        f"launch: srun --mpi=pmix: this Slurm has {there}; use --launcher mpirun with -H, or have Slurm's plugin "
        "installed (Debian: slurm-wlm-basic-plugins, libpmix-dev)"
    )
