"""The training loops that step_overhead.py, cycle_time.py and virtual_workers.py compare; a rank runs one of them.

usage: step_loops.py LOOP MODEL IMAGE_SIZE IMAGES_PER_RANK [KEY=VALUE …] turns=PATH

LOOP is ours (the trainer of `hvd-imagenet train`), bare_horovod (as Horovod's pytorch_imagenet_resnet50.py writes it),
ddp (torch.nn.parallel.DistributedDataParallel on gloo, as torchrun starts it; with tuned=yes at its best settings) or
single (rank=NUMBER), which knows of no other process. Images are random and in memory. A turn (turns.py) is a list:
iterations that do not count, and those whose seconds are the answer.
"""

import atexit
import dataclasses
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from turns import serve

from hvd_imagenet.core import Minibatch
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.torch.models import MODELS

CLASSES = 1000


def random_batch(images: int, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(0)
    pixels = source.integers(0, 256, (images, image_size, image_size, 3), dtype=np.uint8)
    return pixels, source.integers(0, CLASSES, images)


def ours(model: str, image_size: int, images: int, options: dict[str, str]) -> tuple[int, Callable[[], None]]:
    from hvd_imagenet.data.listing import Listing
    from hvd_imagenet.session import Session
    from hvd_imagenet.torch.session import choose_device, join_job
    from hvd_imagenet.torch.trainer import Trainer

    communicator = join_job()
    local_workers, per_pass = int(options.get("workers", 1)), int(options.get("per_pass", 1))
    minibatch = Minibatch(images * communicator.size, images // local_workers)
    recipe = dataclasses.replace(
        Recipe(), model=model, minibatch=minibatch.size, per_worker=minibatch.per_worker, image_size_px=image_size,
        validation_resize_px=image_size, warmup="none",
    )  # fmt: skip
    fake = Listing(Path(), tuple(map(str, range(CLASSES))), np.array([b""] * 10**6), np.zeros(10**6, dtype=np.int64))
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    workers = minibatch.placement(communicator.size)[communicator.rank]
    config = RunConfig(
        data=Path(), out=folder, channels_last=options.get("layout") == "channels_last", workers_per_pass=per_pass
    )
    device = choose_device(communicator.local_rank)
    trainer = Trainer(recipe, config, Session(communicator, fake, fake, "", workers, folder, None, None), device)
    batches = [random_batch(minibatch.per_worker * per_pass, image_size) for _ in range(local_workers // per_pass)]
    return communicator.rank, lambda: trainer.iterate(batches)


def peer_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, image_size: int, images: int, layout: str
) -> Callable[[], None]:
    """One iteration as both peers' examples write it, on float images that are there already."""
    pixels, labels = random_batch(images, image_size)
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    inputs = inputs.contiguous(
        memory_format=torch.channels_last if layout == "channels_last" else torch.contiguous_format
    )
    targets = torch.from_numpy(labels)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    return step


def bare_horovod(model: str, image_size: int, images: int, options: dict[str, str]) -> tuple[int, Callable[[], None]]:
    import horovod.torch as hvd

    hvd.init()
    network = MODELS[model](num_classes=CLASSES)
    sgd = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    optimizer = hvd.DistributedOptimizer(sgd, named_parameters=network.named_parameters())
    hvd.broadcast_parameters(network.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    return hvd.rank(), peer_step(network, optimizer, image_size, images, "contiguous")


def ddp(model: str, image_size: int, images: int, options: dict[str, str]) -> tuple[int, Callable[[], None]]:
    tuned = options.get("tuned") == "yes"
    if tuned:  # to a core of its own, as `launch` binds ranks
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(os.environ["LOCAL_RANK"]) % len(cores)]})
    torch.distributed.init_process_group("gloo")
    layout = options.get("layout", "contiguous")
    network = nn.parallel.DistributedDataParallel(
        in_layout(MODELS[model](num_classes=CLASSES), layout),
        broadcast_buffers=not tuned,
        gradient_as_bucket_view=tuned,
        static_graph=tuned,
    )
    sgd = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    return torch.distributed.get_rank(), peer_step(network, sgd, image_size, images, layout)


def single(model: str, image_size: int, images: int, options: dict[str, str]) -> tuple[int, Callable[[], None]]:
    layout = options.get("layout", "contiguous")
    network = in_layout(MODELS[model](num_classes=CLASSES), layout)
    sgd = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    return int(options["rank"]), peer_step(network, sgd, image_size, images, layout)


def in_layout(network: nn.Module, layout: str) -> nn.Module:
    return network.to(memory_format=torch.channels_last) if layout == "channels_last" else network


def timed(step: Callable[[], None], request: list[int]) -> list[float]:
    """Seconds of iterations."""
    uncounted, counted = request
    seconds = []
    for _ in range(uncounted + counted):
        start_s = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start_s)
    return seconds[uncounted:]


LOOPS = {"ours": ours, "bare_horovod": bare_horovod, "ddp": ddp, "single": single}


def main() -> None:
    loop, model, image_size, images = sys.argv[1:5]
    options = dict(word.split("=", 1) for word in sys.argv[5:])
    rank, step = LOOPS[loop](model, int(image_size), int(images), options)
    serve(options["turns"], rank, lambda request: timed(step, request))


if __name__ == "__main__":
    main()
