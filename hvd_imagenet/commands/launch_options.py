"""The options of `launch`."""

import argparse
from pathlib import Path

from hvd_imagenet.launcher.choice import LAUNCHERS
from hvd_imagenet.launcher.tuning import ALGORITHMS, BOUND_CYCLE_TIME_MS, CPU_CYCLE_TIME_MS, HOST_FUSION_MB

EXAMPLES = """\
examples:
  hvd-imagenet launch -np 2 -- train --data DIR    two processes of `train`
  hvd-imagenet launch -np 8 -- python my_loop.py   any other program
  hvd-imagenet launch --dry-run -np 2 -- train     the mpirun command, to read
  hvd-imagenet launch -H node1:8,node2:8 -- train …
      on several hosts, over ssh
  hvd-imagenet launch --hostfile FILE --max-restarts 3 --min-np 8 -- train …
      after a failure again, on those hosts that are left
  salloc --nodes=2 hvd-imagenet launch -- train …
      on the nodes that Slurm gives, by srun

Processes are bound to their share of the cores; OMP_NUM_THREADS,
TF_NUM_INTRAOP_THREADS, GLIBC_TUNABLES, HOROVOD_CYCLE_TIME and
HOROVOD_FUSION_THRESHOLD are set where that is faster, unless you have set them.
Of your other environment variables the processes get what Python, the
frameworks, GPUs, MPI and Slurm read; --env NAME adds one, --env "WANDB_*" more.
The exit code is that of the first process that failed, 124 if the job stood
still, 143 if it was asked to end (SIGTERM, SIGUSR1) and left a checkpoint.
After 0, 2 (a mistake of yours) and 143 a job is not started again.

Too few hosts for --min-np are an error at the first start with --hostfile or
-H; with --discover, and before a restart, they are waited for, so long as
--start-timeout says.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `launch`."""
    add = parser.add_argument
    add("-np", "--num-proc", type=int, metavar="N", help="processes; default: one per GPU, or core where there is none")
    add("--env", action="append", default=[], metavar="NAME", help="pass on this variable of yours too; repeatable")
    text = "print the launcher's command on one line and stop; hosts whose slots are given need not be up"
    add("--dry-run", action="store_true", help=text)
    add(
        "--launcher",
        choices=LAUNCHERS,
        default="auto",
        help="auto: mpirun with hosts, srun inside a Slurm allocation, else local, which is mpirun on this machine; "
        "horovodrun uses Gloo (default: auto)",
    )
    add("--stall-timeout", type=float, default=600, metavar="S", help="end a job that stands still so long; 0: never")
    add(
        "--start-timeout",
        type=float,
        default=600,
        metavar="S",
        help="the same before the first iteration, and for hosts",
    )
    add = parser.add_argument_group("several hosts").add_argument
    add(
        "-H", dest="host_list", metavar="HOST:SLOTS,…", help="node1:8,node2:8, or node1 for one process per GPU or core"
    )
    add("--hostfile", "--hosts", dest="hosts", type=Path, metavar="FILE", help="the same, a host a line")
    add("--discover", metavar="SCRIPT", help="a program that prints such lines; asked before each start")
    add("--network-interface", metavar="IF", help="for all traffic between hosts (default: by the routes)")
    add = parser.add_argument_group("after a failure").add_argument
    add("--max-restarts", type=int, default=0, metavar="R", help="start again from the last checkpoint (default: 0)")
    add("--min-np", type=int, metavar="A", help="fewest processes to go on with (default: as many as at first)")
    add("--max-np", type=int, metavar="B", help="most processes")
    add = parser.add_argument_group("tuning of Horovod and MPI").add_argument
    add("--timeline", type=Path, metavar="FILE", help="write Horovod's timeline of every tensor, for chrome://tracing")
    add("--autotune", action="store_true", help="let Horovod look for the best fusion threshold and cycle time")
    text = f"reduce so much at once (default: {HOST_FUSION_MB} over MPI on one host of CPUs, else Horovod's 128)"
    add("--fusion-threshold-mb", type=float, metavar="MB", help=text)
    text = f"look for tensors so often (default: {CPU_CYCLE_TIME_MS} on CPUs, {BOUND_CYCLE_TIME_MS} where MPI has bound"
    text += " all ranks of one host to their cores, 1 on GPUs)"
    add("--cycle-time-ms", type=float, metavar="MS", help=text)
    add("--hierarchical-allreduce", action="store_true", help="NCCL within hosts, MPI between them")
    text = f"over MPI: {', '.join(ALGORITHMS)} (default: MPI chooses by size and processes)"
    add("--allreduce-algorithm", choices=ALGORITHMS, metavar="NAME", help=text)
    parser.add_argument(
        "program",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND …",
        help="a command of hvd-imagenet (train, evaluate, …) or any program, with its arguments",
    )
