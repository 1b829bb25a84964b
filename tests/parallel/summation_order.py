"""A rank of 4: Open MPI itself reduces four vectors, and the last bits of the sum tell in which order it has added.

The vectors hold numbers of different sizes; rank 0 prints the names of the orders that give the same bits.
"""

import ctypes
import sys

import numpy as np

from hvd_imagenet.launcher.environment import launched_rank

COUNT, RANKS = 40000, 4
ORDERS = {
    "linear": "one after another",
    "recursive-doubling": "pairs",
    "ring": "each part begins at another rank",
}
"""Algorithm of `launch --allreduce-algorithm` → the order of summation that it has with 4 ranks."""


def reduce(library: str, of: list[np.ndarray]) -> np.ndarray:
    """The sum over all ranks, as MPI_Allreduce makes it."""
    mpi = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)

    def handle(name: str) -> object:
        return ctypes.byref(ctypes.c_char.in_dll(mpi, name))

    def address(array: np.ndarray) -> ctypes.c_void_p:
        return array.ctypes.data_as(ctypes.c_void_p)

    total = np.empty_like(of[0])
    mpi.MPI_Init(None, None)
    code = mpi.MPI_Allreduce(
        address(of[launched_rank() or 0]), address(total), COUNT, handle("ompi_mpi_float"), handle("ompi_mpi_op_sum"),
        handle("ompi_mpi_comm_world"),
    )  # fmt: skip
    assert code == 0
    mpi.MPI_Finalize()
    return total


def main() -> None:
    of = [(np.random.default_rng(rank).standard_normal(COUNT) * 10**rank).astype(np.float32) for rank in range(RANKS)]
    total = reduce(sys.argv[1], of)
    parts = [slice(part * COUNT // RANKS, (part + 1) * COUNT // RANKS) for part in range(RANKS)]
    turned = [[of[(part + turn) % RANKS][where] for turn in range(RANKS)] for part, where in enumerate(parts)]
    sums = {
        "one after another": ((of[3] + of[2]) + of[1]) + of[0],
        "pairs": (of[0] + of[1]) + (of[2] + of[3]),
        "each part begins at another rank": np.concatenate([((a + b) + c) + d for a, b, c, d in turned]),
    }
    if launched_rank() == 0:
        print(*(name for name, expected in sums.items() if np.array_equal(total, expected)))


if __name__ == "__main__":
    main()
