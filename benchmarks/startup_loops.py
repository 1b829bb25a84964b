"""A rank of startup.py: one iteration of a small network; rank 0 prints the time at its end, in seconds since 1970.

usage: startup_loops.py bare | ddp | train OPTIONS…
"""

import sys
import time


def bare() -> int:
    """A loop on Horovod as upstream's examples write it; returns the rank."""
    import horovod.torch as hvd
    import torch

    hvd.init()
    network = torch.nn.Linear(64, 10)
    sgd = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    optimizer = hvd.DistributedOptimizer(sgd, named_parameters=network.named_parameters())
    hvd.broadcast_parameters(network.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    iterate(network, optimizer)
    return int(hvd.rank())


def ddp() -> int:
    """The same on torch DistributedDataParallel and gloo."""
    import torch

    torch.distributed.init_process_group("gloo")
    network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 10))
    iterate(network, torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9))
    return torch.distributed.get_rank()


def iterate(network: object, optimizer: object) -> None:
    import torch

    logits = network(torch.ones(16, 64))  # type: ignore[operator]
    torch.nn.functional.cross_entropy(logits, torch.zeros(16, dtype=torch.int64)).backward()
    optimizer.step()  # type: ignore[attr-defined]


def train(options: list[str]) -> None:
    """`hvd-imagenet train`, which says when its first iteration is done."""
    from hvd_imagenet.cli import main
    from hvd_imagenet.torch.trainer import Trainer

    original = Trainer.iterate

    def iterate_and_say(trainer: Trainer, batches: list) -> None:  # type: ignore[type-arg]
        original(trainer, batches)
        if trainer.run_state.iteration == 1 and trainer.session.communicator.rank == 0:
            say()

    Trainer.iterate = iterate_and_say  # type: ignore[method-assign]
    sys.exit(main(["train", *options]))


def say() -> None:
    print(f"first iteration {time.time()}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(sys.argv[2:])
    elif {"bare": bare, "ddp": ddp}[sys.argv[1]]() == 0:
        say()
