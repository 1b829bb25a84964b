"""`launch --allreduce-algorithm`: the order of summation, seen in the last bits of a sum, tells what Open MPI does."""

import sys
import sysconfig
from pathlib import Path

import pytest
from ranks import program, run

TIMEOUT_S = 60
RANKS = 4
# Four vectors of different sizes of numbers, reduced by Open MPI itself; rank 0 says which orders give the same bits.
PROGRAM = """
import ctypes, sys
import numpy as np
from hvd_imagenet.launcher.environment import launched_rank

COUNT, RANKS = 40000, 4
mpi = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
handle = lambda name: ctypes.byref(ctypes.c_char.in_dll(mpi, name))
address = lambda array: array.ctypes.data_as(ctypes.c_void_p)
of = [(np.random.default_rng(rank).standard_normal(COUNT) * 10**rank).astype(np.float32) for rank in range(RANKS)]
total = np.empty_like(of[0])
mpi.MPI_Init(None, None)
code = mpi.MPI_Allreduce(address(of[launched_rank()]), address(total), COUNT, handle("ompi_mpi_float"),
                         handle("ompi_mpi_op_sum"), handle("ompi_mpi_comm_world"))
assert code == 0
mpi.MPI_Finalize()
parts = [slice(part * COUNT // RANKS, (part + 1) * COUNT // RANKS) for part in range(RANKS)]
turned = [[of[(part + turn) % RANKS][where] for turn in range(RANKS)] for part, where in enumerate(parts)]
orders = {
    "one after another": ((of[3] + of[2]) + of[1]) + of[0],
    "pairs": (of[0] + of[1]) + (of[2] + of[3]),
    "each part begins at another rank": np.concatenate([((a + b) + c) + d for a, b, c, d in turned]),
}
if launched_rank() == 0:
    print(*(name for name, expected in orders.items() if np.array_equal(total, expected)))
"""


@pytest.mark.parametrize(
    ("algorithm", "order"),
    [
        ("linear", "one after another"),
        ("recursive-doubling", "pairs"),
        ("ring", "each part begins at another rank"),
    ],
)
def test_open_mpi_does_as_told(algorithm: str, order: str) -> None:
    library = next(Path(sysconfig.get_path("data"), "lib").glob("libmpi.so.*"))
    words = ["-np", str(RANKS), "--allreduce-algorithm", algorithm, "--", sys.executable, "-c", PROGRAM, str(library)]
    done = run(program("launch", *words), timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == order
    assert f"launch: MPI reduces by {algorithm} (--allreduce-algorithm)" in done.stderr
