"""`launch --allreduce-algorithm`: the order of summation, seen in the last bits of a sum, tells what Open MPI does."""

import sys
import sysconfig
from pathlib import Path

import pytest
import summation_order
from ranks import program, run
from summation_order import ORDERS, RANKS

TIMEOUT_S = 60


@pytest.mark.parametrize(("algorithm", "order"), ORDERS.items())
def test_open_mpi_does_as_told(algorithm: str, order: str) -> None:
    library = next(Path(sysconfig.get_path("data"), "lib").glob("libmpi.so.*"))
    rank = [sys.executable, summation_order.__file__, str(library)]
    done = run(
        program("launch", "-np", str(RANKS), "--allreduce-algorithm", algorithm, "--", *rank), timeout_s=TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == order
    assert f"launch: MPI reduces by {algorithm} (--allreduce-algorithm)" in done.stderr
