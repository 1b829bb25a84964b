"""`launch --timeline` and the other tuning options reach Horovod, over MPI and over Gloo; ranks are bound to cores."""

import os
import sys
from pathlib import Path

import pytest
from ranks import program, run

from hvd_imagenet.launcher.machine import physical_cores, this_machine

TIMEOUT_S = 90
PROGRAM = """
import os, sys, time
import horovod.torch as hvd, torch

hvd.init()
assert hvd.allreduce(torch.ones(3), name="the_gradient", op=hvd.Sum).tolist() == [2, 2, 2]
time.sleep(1)  # Horovod drops what its timeline's thread has not written by then
hvd.shutdown()
names = ("HOROVOD_CYCLE_TIME", "HOROVOD_FUSION_THRESHOLD", "HOROVOD_AUTOTUNE")
sys.stdout.write(" ".join(str(os.environ.get(name)) for name in names) + "\\n")
"""


@pytest.mark.parametrize("launcher", ["mpirun", "horovodrun"])
def test_horovod_writes_its_timeline(tmp_path: Path, launcher: str) -> None:
    timeline = tmp_path / "timeline, of two ranks.json"
    options = [
        "--launcher",
        launcher,
        "--timeline",
        str(timeline),
        "--cycle-time-ms",
        "5",
        "--fusion-threshold-mb",
        "2",
    ]
    done = run(
        program("launch", "-np", "2", *options, "--", sys.executable, "-c", PROGRAM),
        timeout_s=TIMEOUT_S,
        HOROVOD_CYCLE_TIME="3",
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("5 2097152 None") == 2
    assert "the_gradient" in timeline.read_text()
    assert f"{'MPI' if launcher == 'mpirun' else 'GLOO'}_ALLREDUCE" in timeline.read_text()


def test_what_is_to_be_tuned_is_not_fixed() -> None:
    done = run(program("launch", "-np", "2", "--autotune", "--", sys.executable, "-c", PROGRAM), timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None None 1\n" * 2


PRINT_PROCESSORS = "import os; print(*sorted(os.sched_getaffinity(0)), flush=True)"


def processors_of_ranks(processes: int) -> list[set[int]]:
    """Those that each rank may run on, as the kernel says."""
    words = ["-np", str(processes), "--launcher", "mpirun", "--", sys.executable, "-c", PRINT_PROCESSORS]
    done = run(program("launch", *words), timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    found = [{int(number) for number in line.split()} for line in done.stdout.splitlines()]
    assert len(found) == processes
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_each_rank_has_cores_of_its_own(processes: int) -> None:
    machine = this_machine()
    if not machine.whole or machine.cores < processes:
        pytest.skip("mpirun can bind where this process may run on every core, and there are as many as ranks")
    found = processors_of_ranks(processes)
    assert [physical_cores(one) for one in found] == [machine.cores // processes] * processes
    assert sum(map(len, found)) == len(set().union(*found))


def test_more_ranks_than_cores_share_all_of_them() -> None:
    processes = this_machine().cores + 1
    assert processors_of_ranks(processes) == [os.sched_getaffinity(0)] * processes
