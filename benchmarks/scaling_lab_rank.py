"""One rank of the scaling lab: a device that is a clock, with real gradients through the real optimizer over Horovod.

Forward and backward of each layer are waits until the moment at which the device would be done; the gradients of its
parameters are tensors, which hvd_imagenet.torch.DistributedOptimizer reduces while the later layers still "compute".
A step ends when its last gradient is reduced: the weight update is part of what the device's clock calls the rest.
Rank 0 writes seconds of each step, and how busy the cores were. Arguments: files of the job and of the result, JSON.
"""

import json
import os
import random
import statistics
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

    def begin_step(self) -> float:
        """Starts the clock; the moment."""
        self._pace = max(0.0, self._random.gauss(1.0, self._spread))
        self._done_s = time.perf_counter()
        return self._done_s

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


class Training:
    """Steps of a job: its layers, seconds of all else, and the spread of the paces."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.device, self.other_s = Device(job["spread"], seed=hvd.rank()), job["other_s"]
        self.network, self.x = TimedNetwork(job["layers"], self.device), torch.zeros(1, requires_grad=True)
        inner = torch.optim.SGD(self.network.parameters(), lr=1e-3)
        minibatch = Minibatch(hvd.size(), 1)
        self.optimizer: Any = DistributedOptimizer(inner, self.network.named_parameters(), minibatch, passes=1)

    def steps(self, count: int) -> tuple[list[float], list[tuple[float, float]]]:
        """Seconds of so many steps, and when backward began and ended in each of them, since the epoch."""
        times_s, backwards = [], []
        begin_s = self.device.begin_step()
        for _ in range(count):
            self.device.compute(self.other_s)
            loss, begun_at_s = self.network(self.x).sum(), time.time()
            loss.backward()
            backwards.append((begun_at_s, time.time()))
            self.optimizer.synchronize()
            end_s = self.device.begin_step()
            times_s.append(end_s - begin_s)
            begin_s = end_s
            with self.optimizer.skip_synchronize():
                self.optimizer.step()
            self.optimizer.zero_grad()
        return times_s, backwards


def step_seconds(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each measured step, and the share of the cores' time in use meanwhile, in all and by the ranks."""
    training = Training(job)
    training.steps(job["unmeasured"])
    hvd.barrier()
    psutil.cpu_percent()
    measured_from_s, own_from_s = time.perf_counter(), time.process_time()
    times_s, backwards = training.steps(job["steps"])
    busy, wall_s = psutil.cpu_percent() / 100, time.perf_counter() - measured_from_s
    of_all_ranks_s = hvd.allreduce(torch.tensor(time.process_time() - own_from_s), op=hvd.Sum).item()
    with_ranks = of_all_ranks_s / wall_s / (os.cpu_count() or 1)  # MPI binds a rank to some of them
    return {"seconds": times_s, "backwards": backwards, "busy": busy, "busy_with_ranks": with_ranks}


def message_seconds(rounds: int, at_once: int) -> dict[str, Any]:
    """Seconds of one number's allreduce, and of each of many that follow on each other and are as short as can be.

    The latter have numbers for every step of every rank, and are too many to be found at one look.
    """
    tensor, alone_s, row_s = torch.ones(1), [], []
    short = [torch.ones(8 * hvd.size()) for _ in range(at_once)]
    for _ in range(rounds):
        hvd.barrier()
        begin_s = time.perf_counter()
        hvd.allreduce_(tensor, name="one", op=hvd.Sum)
        alone_s.append(time.perf_counter() - begin_s)
    for _ in range(max(3, rounds // 10)):
        hvd.barrier()
        begin_s = time.perf_counter()
        handles = [hvd.allreduce_async_(each, name=f"short.{index}", op=hvd.Sum) for index, each in enumerate(short)]
        for handle in handles:
            hvd.synchronize(handle)
        row_s.append((time.perf_counter() - begin_s) / at_once)
    return {"alone_s": statistics.quantiles(alone_s[rounds // 4 :], n=4)[0], "in_a_row_s": min(row_s[1:])}


def main() -> None:
    torch.set_num_threads(1)
    job = json.loads(Path(sys.argv[1]).read_text())
    hvd.init()
    found = message_seconds(job["rounds"], job["at_once"]) if "rounds" in job else step_seconds(job)
    if hvd.rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(found))
    hvd.shutdown()


if __name__ == "__main__":
    main()
