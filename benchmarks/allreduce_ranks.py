"""One rank of allreduce.py: sums tensors over all ranks with one library; rank 0 prints seconds as JSON.

usage: allreduce_ranks.py horovod|mpi4py|torch_gloo SPECIFICATION

The specification, in JSON: bytes, a list of sizes of single tensors; set, a list of sizes that are reduced together, as
the gradients of a step are; times, how often the largest is measured; idle_s, for how long nothing is done.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Step = Callable[[], None]
# Small ones are measured more often.
_MOST_TIMES, _BYTES_AT_ONCE = 10, 1 << 26
_MATRIX = 256


class Horovod:
    """Submits all tensors, then waits; Horovod fuses those that are ready in the same cycle."""

    def __init__(self) -> None:
        import horovod.torch as hvd
        import torch

        hvd.init()
        self.rank, self.barrier, self._hvd, self._torch = hvd.rank(), hvd.barrier, hvd, torch

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


def seconds(step: Step, barrier: Step, times: int) -> float:
    """The median time from a barrier to the end."""
    taken_s = []
    for _ in range(times + 2):
        barrier()
        began_s = time.perf_counter()
        step()
        taken_s.append(time.perf_counter() - began_s)
    return statistics.median(taken_s[2:])


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
    for size in wanted.get("bytes", ()):
        times = max(wanted["times"], min(_MOST_TIMES, _BYTES_AT_ONCE // size))
        found["seconds"][str(size)] = seconds(library.step([size]), library.barrier, times)
    sizes = wanted.get("set", ())
    if sizes:
        found["seconds"]["set"] = seconds(library.step(sizes), library.barrier, wanted["times"])
        found["seconds"]["set_in_one_buffer"] = seconds(library.step([sum(sizes)]), library.barrier, wanted["times"])
    if wanted.get("idle_s"):
        library.barrier()
        found |= idle(wanted["idle_s"])
    return found


def main() -> None:
    library: Any = {"horovod": Horovod, "mpi4py": Mpi4py, "torch_gloo": TorchGloo}[sys.argv[1]]()
    found = measure(library, json.loads(sys.argv[2]))
    library.barrier()
    if library.rank == 0:
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
