"""The training loops that step_overhead.py and virtual_workers.py compare; a rank runs one of them.

usage: step_loops.py LOOP MODEL IMAGE_SIZE IMAGES_PER_RANK ITERATIONS [KEY=VALUE …]

Images are random and in memory. Rank 0 prints the median seconds of an iteration after two for warming up.
LOOP is ours (the trainer of `hvd-imagenet train`), bare_horovod (as Horovod's pytorch_imagenet_resnet50.py writes it)
or ddp (torch.nn.parallel.DistributedDataParallel on gloo, as torchrun starts it).
"""

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

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
    torch.distributed.init_process_group("gloo")
    layout = options.get("layout", "contiguous")
    network = MODELS[model](num_classes=CLASSES)
    if layout == "channels_last":
        network = network.to(memory_format=torch.channels_last)
    network = nn.parallel.DistributedDataParallel(network)
    sgd = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    return torch.distributed.get_rank(), peer_step(network, sgd, image_size, images, layout)


def main() -> None:
    loop, model, image_size, images, iterations = sys.argv[1:6]
    options = dict(word.split("=", 1) for word in sys.argv[6:])
    rank, step = {"ours": ours, "bare_horovod": bare_horovod, "ddp": ddp}[loop](
        model, int(image_size), int(images), options
    )
    seconds = []
    for _ in range(int(iterations) + 2):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    if rank == 0:
        print(json.dumps({"seconds": statistics.median(seconds[2:])}), flush=True)


if __name__ == "__main__":
    main()
