"""The adapter for anybody's loop on two ranks that run three virtual workers: rank 0 two of them, rank 1 one."""

from typing import Any

import numpy as np
import pytest
from ranks import run_ranks

from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.core.schedules import gradual_warmup
from hvd_imagenet.core.sharding import Stream

MINIBATCH = Minibatch(size=6, per_worker=2)
IMAGES = 50
LR = 0.5
WEIGHTS = np.array([[1.0, -2.0, 3.0]])
# The gradient of each worker's mean loss; the minibatch's is their mean.
OF_WORKERS = np.array([[3.0, 0.0, 6.0], [-1.0, 5.0, 0.0], [4.0, 1.0, 3.0]])
MEAN = np.array([[2.0, 2.0, 3.0]])


class Toy:
    """Weights, an optimizer in the adapter, and the backward passes of this rank's workers."""

    def __init__(self, kind: str = "SGD", dtype: str = "float64", **options: Any) -> None:
        import horovod.torch as hvd
        import torch

        from hvd_imagenet.torch import DistributedOptimizer

        self.torch = torch
        self.workers = MINIBATCH.placement(hvd.size())[hvd.rank()]
        self.model = torch.nn.Linear(3, 1, bias=False, dtype=getattr(torch, dtype))
        with torch.no_grad():
            self.model.weight.copy_(torch.from_numpy(WEIGHTS))
        adapter = {
            name: options.pop(name) for name in ("schedule", "images", "passes", "compression") if name in options
        }
        inner = getattr(torch.optim, kind)(self.model.parameters(), **{"lr": LR, **options})
        self.optimizer: Any = DistributedOptimizer(inner, self.model.named_parameters(), MINIBATCH, **adapter)

    def backward(self, factor: float = 1.0) -> None:
        for worker in self.workers:
            row = self.torch.from_numpy(OF_WORKERS[worker] * factor).to(self.model.weight.dtype)
            (self.model.weight * row).sum().backward()

    def has(self, expected: np.ndarray, tolerance: float = 1e-14) -> None:
        np.testing.assert_allclose(self.model.weight.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


def optimizer_checks() -> None:
    for check in (
        step_synchronize_and_skip, clipping, zero_grad_variants, a_closure, accumulation, compression,
        sparse_gradients, gradients_that_one_rank_lacks, other_optimizers, state_round_trip, scheduler, refusals,
        no_second_copy,
    ):  # fmt: skip
        print(check.__name__, flush=True)
        check()


def step_synchronize_and_skip() -> None:
    toy = Toy()
    for step in range(1, 5):
        toy.optimizer.zero_grad()
        toy.backward()
        if step == 2:
            toy.optimizer.synchronize()
            np.testing.assert_allclose(toy.model.weight.grad.numpy(), MEAN, rtol=1e-14)
            toy.optimizer.step()  # must not reduce once more
        elif step == 3:
            toy.optimizer.synchronize()
            toy.optimizer.synchronize()
            with toy.optimizer.skip_synchronize():
                toy.optimizer.step()
        else:
            toy.optimizer.step()
        toy.has(WEIGHTS - step * LR * MEAN)
        assert toy.optimizer.iteration == step


def clipping() -> None:
    clipped = MEAN * 0.5 / np.linalg.norm(MEAN)
    for skip in (True, False):
        toy = Toy()
        toy.backward()
        toy.optimizer.synchronize()
        norm = toy.torch.nn.utils.clip_grad_norm_(toy.model.parameters(), 0.5)
        np.testing.assert_allclose(norm.item(), np.linalg.norm(MEAN), rtol=1e-14)
        if skip:
            with toy.optimizer.skip_synchronize():
                toy.optimizer.step()
        else:
            toy.optimizer.step()
        toy.has(WEIGHTS - LR * clipped, tolerance=1e-6)  # torch adds 1e-6 to the norm


def zero_grad_variants() -> None:
    toy = Toy()
    toy.backward()
    toy.optimizer.step()
    where = toy.model.weight.grad.data_ptr()
    toy.optimizer.zero_grad(set_to_none=False)
    assert toy.model.weight.grad.data_ptr() == where
    assert not toy.model.weight.grad.any()
    toy.backward()
    with pytest.raises(RuntimeError, match=r"must not come between backward\(\) and step\(\)"):
        toy.optimizer.zero_grad()
    toy.optimizer.step()
    toy.has(WEIGHTS - 2 * LR * MEAN)
    toy.optimizer.zero_grad(set_to_none=True)
    assert toy.model.weight.grad is None


def a_closure() -> None:
    toy = Toy()

    def closure() -> float:
        toy.optimizer.zero_grad()
        toy.backward()
        return 7.5

    for step in (1, 2):
        assert toy.optimizer.step(closure) == 7.5
        toy.has(WEIGHTS - step * LR * MEAN)


def accumulation() -> None:
    # Each worker's images in two passes of half the size, beside the two workers of rank 0.
    passes = 2 * len(MINIBATCH.placement(2)[_rank()])
    toy = Toy(passes=passes)
    for step in (1, 2):
        toy.optimizer.zero_grad()
        toy.backward(0.25)
        toy.backward(0.75)
        toy.optimizer.step()
        toy.has(WEIGHTS - step * LR * MEAN)


def _rank() -> int:
    import horovod.torch as hvd

    return int(hvd.rank())


def compression() -> None:
    import horovod.torch as hvd

    toy = Toy(dtype="float32", compression=hvd.Compression.fp16)
    toy.backward(1.0 + 1 / 4096)  # float16 has no such number
    toy.optimizer.step()
    assert toy.model.weight.grad.dtype == toy.torch.float32
    toy.has(WEIGHTS - LR * MEAN, tolerance=2e-3)
    np.testing.assert_array_equal(toy.model.weight.grad.numpy() * 3 % (1 / 256), 0)


def sparse_gradients() -> None:
    import torch

    from hvd_imagenet.torch import DistributedOptimizer

    embedding = torch.nn.Embedding(5, 2, sparse=True)
    torch.nn.init.zeros_(embedding.weight)
    inner = torch.optim.SGD(embedding.parameters(), lr=1.0)
    optimizer: Any = DistributedOptimizer(inner, embedding.named_parameters(), MINIBATCH)
    for step in (1, 2):
        optimizer.zero_grad()
        for worker in MINIBATCH.placement(2)[_rank()]:
            embedding(torch.tensor([worker, 4])).sum().backward()
        optimizer.step()
        assert embedding.weight.grad is not None
        assert embedding.weight.grad.is_sparse
        expected = -step * np.array([1, 1, 1, 0, 3])[:, None] / 3 * np.ones(2)
        np.testing.assert_allclose(embedding.weight.detach().numpy(), expected, rtol=1e-6)


def gradients_that_one_rank_lacks() -> None:
    import torch

    from hvd_imagenet.torch import DistributedOptimizer

    shared, partly, unused, frozen = (torch.nn.Parameter(torch.ones(2)) for _ in range(4))
    frozen.requires_grad_(False)
    named = {"shared": shared, "partly": partly, "unused": unused, "frozen": frozen}
    inner = torch.optim.SGD(named.values(), lr=1.0)
    optimizer: Any = DistributedOptimizer(inner, named.items(), MINIBATCH)
    for step in (1, 2):
        optimizer.zero_grad()
        for worker in MINIBATCH.placement(2)[_rank()]:
            loss = shared.sum()
            (loss + 6 * partly.sum() if worker == 2 else loss).backward()
        optimizer.step()
        for parameter, moved in ((shared, 1.0), (partly, 2.0), (unused, 0.0), (frozen, 0.0)):
            np.testing.assert_allclose(parameter.detach().numpy(), 1.0 - step * moved * np.ones(2), rtol=1e-6)
    assert frozen.grad is None


def other_optimizers() -> None:
    import torch

    for kind, options in {
        "Adam": {"lr": 0.1, "weight_decay": 0.1},
        "AdamW": {"lr": 0.1},
        "RMSprop": {"lr": 0.1, "momentum": 0.9},
    }.items():
        toy = Toy(kind, **options)
        assert type(toy.optimizer).__name__ == kind
        assert isinstance(toy.optimizer, getattr(torch.optim, kind))
        alone = torch.nn.Parameter(torch.from_numpy(WEIGHTS.copy()))
        reference = getattr(torch.optim, kind)([alone], **options)
        for step in range(3):
            toy.optimizer.zero_grad()
            toy.backward(step + 1.0)
            toy.optimizer.step()
            alone.grad = torch.from_numpy(MEAN * (step + 1.0))
            reference.step()
        toy.has(alone.detach().numpy(), tolerance=1e-12)


def state_round_trip() -> None:
    def schedule(epochs: float) -> float:
        return 0.1 + epochs

    options = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "schedule": schedule, "images": IMAGES}
    whole, first, second = Toy(**options), Toy(**options), Toy(**options)
    for step in range(4):
        for toy in (whole, first if step < 2 else second):
            toy.optimizer.zero_grad()
            toy.backward(step + 1.0)
            toy.optimizer.step()
        if step == 1:
            second.model.load_state_dict(first.model.state_dict())
            second.optimizer.load_state_dict(first.optimizer.state_dict())
            assert second.optimizer.iteration == 2
    second.has(whole.model.weight.detach().numpy(), tolerance=0)
    assert second.optimizer.param_groups[0]["lr"] == schedule(3 * 6 / IMAGES)


def scheduler() -> None:
    from hvd_imagenet.torch import LearningRate

    schedule = gradual_warmup(0.1, 0.4, warmup_epochs=0.3)
    by_scheduler, by_adapter = Toy(), Toy(schedule=schedule, images=IMAGES)
    learning_rate = LearningRate(by_scheduler.optimizer, schedule, MINIBATCH, IMAGES)
    seen = []
    for _ in range(4):
        for toy in (by_scheduler, by_adapter):
            toy.optimizer.zero_grad()
            toy.backward()
            toy.optimizer.step()
        seen.append(by_scheduler.optimizer.param_groups[0]["lr"])
        learning_rate.step()
    np.testing.assert_allclose(seen, [0.1, 0.22, 0.34, 0.4], rtol=1e-14)  # progress 0, 0.12, 0.24, 0.36 epochs
    by_scheduler.has(by_adapter.model.weight.detach().numpy())


def refusals() -> None:
    import torch

    from hvd_imagenet.torch import DistributedOptimizer

    model = torch.nn.Linear(1, 1)
    inner = torch.optim.SGD(model.parameters(), lr=1.0)
    cases: list[tuple[Minibatch, dict[str, Any], str]] = [
        (MINIBATCH, {"schedule": gradual_warmup(0, 1, 1)}, "images must be given with a schedule"),
        (MINIBATCH, {"passes": 0}, "passes must be an integer of 1 or more, not 0"),
        (Minibatch(2, 2), {}, "2 processes would share 1 workers"),
    ]
    for minibatch, options, message in cases:
        with pytest.raises(ValueError, match=message):
            DistributedOptimizer(inner, model.named_parameters(), minibatch, **options)


def no_second_copy() -> None:
    import torch

    from hvd_imagenet.torch import DistributedOptimizer

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 3)).to(
        memory_format=torch.channels_last
    )
    inner = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer: Any = DistributedOptimizer(inner, model.named_parameters(), MINIBATCH)
    for _ in MINIBATCH.placement(2)[_rank()]:
        images = torch.ones(2, 3, 8, 8).to(memory_format=torch.channels_last)
        model(images).mean().backward()
    before = [parameter.grad.data_ptr() for parameter in model.parameters() if parameter.grad is not None]
    optimizer.synchronize()
    after = [parameter.grad.data_ptr() for parameter in model.parameters() if parameter.grad is not None]
    assert len(before) == 4
    assert before == after


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

    totals = [(6.0, 2), (0.0, 0)] if _rank() == 0 else [(3.0, 4), (5.0, 2)]
    assert [metric_average(total, images) for total, images in totals] == [1.5, 2.5]


def broadcast_of_fresh_and_used_optimizers() -> None:
    import torch

    from hvd_imagenet.torch import DistributedOptimizer, HorovodCommunicator, broadcast

    rank = _rank()
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
        index: {name: value.tolist() if hasattr(value, "tolist") else value for name, value in of_one.items()}
        for index, of_one in state["state"].items()
    }
    return [{name: value.tolist() for name, value in model.state_dict().items()}, plain, state["param_groups"]]


def every_epoch_exactly_once() -> None:
    import torch
    from torch.utils.data import DataLoader

    from hvd_imagenet.torch import HorovodCommunicator, StreamBatchSampler

    workers = MINIBATCH.placement(2)[_rank()]
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

    workers = MINIBATCH.placement(2)[_rank()]
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


def test_the_optimizer_in_anybody_s_loop() -> None:
    run_ranks(2, optimizer_checks)


def test_what_a_loop_needs_beside_the_optimizer() -> None:
    run_ranks(2, loop_checks)
