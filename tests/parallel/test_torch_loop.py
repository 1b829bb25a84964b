"""What a loop of one's own needs beside the optimizer: mixed precision, averages, broadcast, sampler, batch norm."""

from typing import Any

import numpy as np
from ranks import run_ranks
from toy import IMAGES, LR, MEAN, MINIBATCH, OF_WORKERS, WEIGHTS, Toy, rank_of_this_process

from hvd_imagenet.core.sharding import Stream


def loop_checks() -> None:
    for check in (
        mixed_precision_with_an_overflow_on_one_rank, averages_of_metrics, broadcast_of_fresh_and_used_optimizers,
        every_epoch_exactly_once, batch_norm_averaged_late,
    ):  # fmt: skip
        print(check.__name__, flush=True)
        check()


def mixed_precision_with_an_overflow_on_one_rank() -> None:
    import torch

    from hvd_imagenet.torch import HorovodCommunicator

    toy = Toy(dtype="float32")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=100)
    moved = 0
    for step in range(5):
        toy.optimizer.zero_grad()
        for worker in toy.workers:
            row = torch.from_numpy(OF_WORKERS[worker]).float()[None]
            if step == 2 and worker == 2:  # on rank 1 alone
                row = row * 1e4  # 1024 times as much is more than float16 holds
            with torch.autocast("cpu", dtype=torch.float16):
                output = toy.model(row)
                assert output.dtype == torch.float16
            scaler.scale(output.sum()).backward()
        toy.optimizer.synchronize()
        scaler.unscale_(toy.optimizer)
        torch.nn.utils.clip_grad_norm_(toy.model.parameters(), 100.0)
        with toy.optimizer.skip_synchronize():
            scaler.step(toy.optimizer)
        scaler.update()
        moved += step != 2
        toy.has(WEIGHTS - moved * LR * MEAN, tolerance=2e-3)
        scales = HorovodCommunicator().gather(scaler.get_scale())
        assert scales == [1024.0 if step < 2 else 512.0] * 2
    assert toy.optimizer.iteration == 4


def averages_of_metrics() -> None:
    from hvd_imagenet.torch import metric_average

    totals = [(6.0, 2), (0.0, 0)] if rank_of_this_process() == 0 else [(3.0, 4), (5.0, 2)]
    assert [metric_average(total, images) for total, images in totals] == [1.5, 2.5]


def broadcast_of_fresh_and_used_optimizers() -> None:
    import torch

    from hvd_imagenet.torch import DistributedOptimizer, HorovodCommunicator, broadcast

    rank = rank_of_this_process()
    kinds: list[tuple[str, dict[str, Any]]] = [("SGD", {"momentum": 0.9}), ("SGD", {}), ("Adam", {})]
    for kind, options in kinds:
        for adapted in (True, False):
            for steps in ((0, 0), (0, 2), (2, 0), (2, 2)):
                torch.manual_seed(rank)
                model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
                optimizer: Any = getattr(torch.optim, kind)(
                    model.parameters(), lr=0.1 + rank, weight_decay=0.5, **options
                )
                for _ in range(steps[rank]):
                    model(torch.randn(4, 3)).square().mean().backward()
                    optimizer.step()
                if adapted:
                    state = optimizer.state_dict()
                    optimizer = DistributedOptimizer(optimizer, model.named_parameters(), MINIBATCH)
                    if steps[rank]:
                        optimizer.load_state_dict({**optimizer.state_dict(), "state": state["state"]})
                    optimizer.iteration = 3 + rank
                before = described(model, optimizer)
                broadcast(model, optimizer)
                after = HorovodCommunicator().gather(described(model, optimizer))
                assert after[0] == after[1], (kind, adapted, steps)
                if rank == 0:
                    assert after[0] == before, (kind, adapted, steps)


def described(model: Any, optimizer: Any) -> Any:
    """Every weight, buffer, state and option as plain data."""
    state = optimizer.state_dict()
    plain = {
        str(index): {name: value.tolist() if hasattr(value, "tolist") else value for name, value in of_one.items()}
        for index, of_one in state["state"].items()
    }
    groups = [{name: repr(value) for name, value in group.items()} for group in state["param_groups"]]
    return [{name: value.tolist() for name, value in model.state_dict().items()}, plain, groups]


def every_epoch_exactly_once() -> None:
    import torch
    from torch.utils.data import DataLoader

    from hvd_imagenet.torch import HorovodCommunicator, StreamBatchSampler

    workers = MINIBATCH.placement(2)[rank_of_this_process()]
    stream = Stream(IMAGES, MINIBATCH, seed=4)
    sampler = StreamBatchSampler(stream, workers, range(25))  # 25 · 6 = 3 · 50
    batches = [batch.tolist() for batch in DataLoader(torch.arange(IMAGES), batch_sampler=sampler)]
    assert len(batches) == len(sampler) == 25 * len(workers)
    assert all(len(batch) == 2 for batch in batches)
    per_rank = HorovodCommunicator().gather([batches[t * len(workers) : (t + 1) * len(workers)] for t in range(25)])
    taken = [image for t in range(25) for batches in per_rank for batch in batches[t] for image in batch]
    for epoch in range(3):
        assert sorted(taken[epoch * IMAGES : (epoch + 1) * IMAGES]) == list(range(IMAGES))
    assert taken == [image for t in range(25) for image in stream.iteration(t)[1].tolist()]


def batch_norm_averaged_late() -> None:
    import torch

    from hvd_imagenet.torch import (
        HorovodCommunicator,
        average_over_processes,
        convert_batch_norm,
        running_averages,
    )

    workers = MINIBATCH.placement(2)[rank_of_this_process()]
    data = np.random.default_rng(1).normal(size=(6, 3, 2, 5)) ** 2  # iterations, workers, n, channels
    late, often = (convert_batch_norm(torch.nn.BatchNorm1d(5, dtype=torch.float64), 2, len(workers)) for _ in range(2))
    mean, variance = np.zeros(5), np.ones(5)
    for of_iteration in data:
        for worker in workers:
            late(torch.from_numpy(of_iteration[worker]))
        often(torch.from_numpy(of_iteration[workers.start : workers.stop].reshape(-1, 5)))
        average_over_processes(running_averages(often), len(workers) / 3, HorovodCommunicator())
        mean = 0.9 * mean + 0.1 * of_iteration.mean((0, 1))
        variance = 0.9 * variance + 0.1 * of_iteration.var(1, ddof=1).mean(0)
    average_over_processes(running_averages(late), len(workers) / 3, HorovodCommunicator())
    for layer in (late, often):
        np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-12)
        np.testing.assert_allclose(layer.running_var.numpy(), variance, rtol=1e-12)


def test_what_a_loop_needs_beside_the_optimizer() -> None:
    run_ranks(2, loop_checks)
