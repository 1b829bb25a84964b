"""One rank of allreduce.py: sums tensors over all ranks with one library.

usage: allreduce_ranks.py horovod|mpi4py|torch_gloo turns=PATH

A turn (turns.py) is an object: bytes, a list of sizes of single tensors; set, a list of sizes that are reduced
together, as the gradients of a step are; times, how often the largest and the smallest are measured; idle_s, for how
long nothing is done. The answer: `seconds` by size, and what doing nothing costs.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from turns import serve

Step = Callable[[], None]
_BYTES_AT_ONCE = 1 << 26
_MATRIX = 256
_GOLDEN = 0.618034


class Horovod:
    """Submits all tensors, then waits; Horovod fuses those that are ready in the same cycle."""

    def __init__(self) -> None:
        import horovod.torch as hvd
        import torch

        hvd.init()
        self.rank, self.barrier, self._hvd, self._torch = hvd.rank(), hvd.barrier, hvd, torch
        self.cycle_s = 1e-3 * float(os.environ.get("HOROVOD_CYCLE_TIME", "1"))
        if hvd.mpi_enabled():  # its own barrier ends with a cycle
            from mpi4py import MPI

            self.barrier = MPI.COMM_WORLD.Barrier

    def step(self, sizes: Sequence[int]) -> Step:
        hvd, tensors = self._hvd, [self._torch.ones(size // 4) for size in sizes]
        names = [f"{len(sizes)}.{number}.{size}" for number, size in enumerate(sizes)]

        def reduce() -> None:
            named = zip(tensors, names, strict=True)
            for handle in [hvd.allreduce_async_(tensor, name=name, op=hvd.Sum) for tensor, name in named]:
                hvd.synchronize(handle)

        return reduce


class Mpi4py:
    """One call after another; MPI has nothing to fuse with, so a set is also measured in one buffer."""

    cycle_s = 0.0

    def __init__(self) -> None:
        from mpi4py import MPI

        self._mpi, self._world = MPI, MPI.COMM_WORLD
        self.rank, self.barrier = self._world.rank, self._world.Barrier

    def step(self, sizes: Sequence[int]) -> Step:
        arrays = [np.ones(size // 4, dtype=np.float32) for size in sizes]

        def reduce() -> None:
            for array in arrays:
                self._world.Allreduce(self._mpi.IN_PLACE, array)

        return reduce


class TorchGloo:
    """torch.distributed on gloo: all submitted, then waited for, as DDP does with its buckets."""

    cycle_s = 0.0

    def __init__(self) -> None:
        import torch
        import torch.distributed as dist

        dist.init_process_group("gloo")
        self.rank, self.barrier, self._dist, self._torch = dist.get_rank(), dist.barrier, dist, torch

    def step(self, sizes: Sequence[int]) -> Step:
        tensors = [self._torch.ones(size // 4) for size in sizes]

        def reduce() -> None:
            for work in [self._dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                work.wait()

        return reduce


def seconds(library: Any, sizes: Sequence[int], times: int) -> float:
    """The median time from a common start to the end.

    Horovod's reductions end with a cycle, and what begins right then waits for a whole one. Backprop does not begin
    with the cycle: so the starts are spread evenly over it, by the multiples of the golden ratio.
    """
    step, taken_s = library.step(sizes), []
    for number in range(times):
        library.barrier()
        time.sleep(library.cycle_s * ((0.5 + _GOLDEN * number) % 1))
        began_s = time.perf_counter()
        step()
        taken_s.append(time.perf_counter() - began_s)
    return statistics.median(taken_s)


def idle(duration_s: float) -> dict[str, float]:
    """What the library takes from a process that reduces nothing, in cores, and the matrix products a second left."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    time.sleep(duration_s)
    share = (time.process_time() - began_cpu_s) / (time.perf_counter() - began_s)
    matrix, products, began_s = np.ones((_MATRIX, _MATRIX), dtype=np.float32), 0, time.perf_counter()
    while time.perf_counter() - began_s < duration_s:
        matrix @ matrix
        products += 1
    return {"idle_cores": share, "products_per_second": products / (time.perf_counter() - began_s)}


def measure(library: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """All that is asked for; every rank does the same."""
    found: dict[str, Any] = {"seconds": {}}
    least, most = wanted["times"]
    for size in wanted.get("bytes", ()):
        found["seconds"][str(size)] = seconds(library, [size], max(least, min(most, _BYTES_AT_ONCE // size)))
    sizes = wanted.get("set", ())
    if sizes:
        found["seconds"]["set"] = seconds(library, sizes, least)
        found["seconds"]["set_in_one_buffer"] = seconds(library, [sum(sizes)], least)
    if wanted.get("idle_s"):
        library.barrier()
        found |= idle(wanted["idle_s"])
    return found


def main() -> None:
    library: Any = {"horovod": Horovod, "mpi4py": Mpi4py, "torch_gloo": TorchGloo}[sys.argv[1]]()
    path = sys.argv[2].removeprefix("turns=")
    serve(path, library.rank, lambda wanted: measure(library, wanted))


if __name__ == "__main__":
    main()
