"""One rank of the scaling lab: a device that is a clock, with real gradients through the real optimizer over Horovod.

Forward and backward of each layer are waits until the moment at which the device would be done; the gradients of its
parameters are tensors, which hvd_imagenet.torch.DistributedOptimizer reduces while the later layers still "compute".
Rank 0 writes seconds of each step, and how busy the cores were. Arguments: files of the job and of the result, JSON.
"""

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import horovod.torch as hvd
import psutil
import torch
from torch import Tensor, nn

from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.torch import DistributedOptimizer


class Device:
    """A device that computes without this machine's processors: it is done with a layer when its time has come.

    Args:
        spread: standard deviation of the pace from step to step, as a share of its mean.
        seed: of the paces.
    """

    def __init__(self, spread: float, seed: int) -> None:
        self._random, self._spread = random.Random(seed), spread
        self._pace, self._done_s = 1.0, 0.0

    def begin_step(self) -> None:
        self._pace = max(0.0, self._random.gauss(1.0, self._spread))
        self._done_s = time.perf_counter()

    def compute(self, seconds: float) -> None:
        self._done_s += self._pace * seconds
        time.sleep(max(0.0, self._done_s - time.perf_counter()))


class TimedLayer(torch.autograd.Function):
    """Waits for the layer's time, forward and backward; gradients of ones."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, device: Device, forward_s: float, backward_s: float, *parameters: Tensor
    ) -> Tensor:
        ctx.device, ctx.backward_s, ctx.shapes = device, backward_s, [each.shape for each in parameters]
        device.compute(forward_s)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ctx.device.compute(ctx.backward_s)
        return gradients[0], None, None, None, *(torch.ones(shape) for shape in ctx.shapes)


class TimedNetwork(nn.Module):
    """Layers of a profile: [[elements of each tensor], forward seconds, backward seconds], in the forward's order."""

    def __init__(self, layers: list[tuple[list[int], float, float]], device: Device) -> None:
        super().__init__()
        self.device, self.times = device, [(forward_s, backward_s) for _, forward_s, backward_s in layers]
        self.tensors = nn.ParameterList(nn.Parameter(torch.zeros(size)) for sizes, _, _ in layers for size in sizes)
        self.counts = [len(sizes) for sizes, _, _ in layers]

    def forward(self, x: Tensor) -> Tensor:
        tensors = iter(self.tensors)
        for count, times in zip(self.counts, self.times, strict=True):
            x = TimedLayer.apply(x, self.device, *times, *(next(tensors) for _ in range(count)))
        return x


def step_seconds(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each measured step, and the share of the cores' time in use meanwhile, in all and by the ranks."""
    device = Device(job["spread"], seed=hvd.rank())
    network = TimedNetwork(job["layers"], device)
    inner = torch.optim.SGD(network.parameters(), lr=1e-3)
    optimizer = DistributedOptimizer(inner, network.named_parameters(), Minibatch(hvd.size(), 1), passes=1)
    x, times_s = torch.zeros(1, requires_grad=True), []
    measured_from_s = own_from_s = 0.0
    for step in range(job["unmeasured"] + job["steps"]):
        if step == job["unmeasured"]:
            hvd.barrier()
            psutil.cpu_percent()
            measured_from_s, own_from_s = time.perf_counter(), time.process_time()
        begin_s = time.perf_counter()
        device.begin_step()
        device.compute(job["other_s"])
        network(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        times_s.append(time.perf_counter() - begin_s)
    busy, wall_s = psutil.cpu_percent() / 100, time.perf_counter() - measured_from_s
    of_all_ranks_s = hvd.allreduce(torch.tensor(time.process_time() - own_from_s), op=hvd.Sum).item()
    with_ranks = of_all_ranks_s / wall_s / len(os.sched_getaffinity(0))
    return {"seconds": times_s[job["unmeasured"] :], "busy": busy, "busy_with_ranks": with_ranks}


def message_seconds(times: int) -> dict[str, Any]:
    """Seconds of allreduces of one number: the messages of one negotiation and those of the reduction."""
    tensor, times_s = torch.ones(1), []
    for _ in range(times):
        hvd.barrier()
        begin_s = time.perf_counter()
        hvd.allreduce_(tensor, name="one", op=hvd.Sum)
        times_s.append(time.perf_counter() - begin_s)
    return {"seconds": times_s[times // 4 :]}


def main() -> None:
    torch.set_num_threads(1)
    job = json.loads(Path(sys.argv[1]).read_text())
    hvd.init()
    found = message_seconds(job["messages"]) if "messages" in job else step_seconds(job)
    if hvd.rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(found))
    hvd.shutdown()


if __name__ == "__main__":
    main()
