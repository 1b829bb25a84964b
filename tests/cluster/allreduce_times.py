"""One rank: measures the allreduce of float32 tensors of some sizes; rank 0 prints seconds by size as JSON."""

import json
import sys
import time

import horovod.torch as hvd
import torch


def seconds(elements: int, times: int = 9) -> float:
    """The least time of an allreduce, from a barrier to its end: what else runs on the machine only adds to it."""
    tensor, taken_s = torch.ones(elements), []
    for _ in range(times + 2):
        hvd.barrier()
        began_s = time.perf_counter()
        hvd.allreduce_(tensor, name=str(elements), op=hvd.Average)
        taken_s.append(time.perf_counter() - began_s)
    return min(taken_s[2:])  # the first are negotiated at length, and find TCP's window small


if __name__ == "__main__":
    hvd.init()
    measured = {elements: seconds(elements) for elements in map(int, sys.argv[1:])}
    if hvd.rank() == 0:
        print(json.dumps(measured))
    hvd.shutdown()
