"""The adapter for anybody's loop on two ranks that run three virtual workers: rank 0 two of them, rank 1 one."""

from typing import Any

import numpy as np
import pytest
from ranks import run_ranks
from toy import IMAGES, LR, MEAN, MINIBATCH, WEIGHTS, Toy, rank_of_this_process

from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.core.schedules import gradual_warmup


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
    passes = 2 * len(MINIBATCH.placement(2)[rank_of_this_process()])
    toy = Toy(passes=passes)
    for step in (1, 2):
        toy.optimizer.zero_grad()
        toy.backward(0.25)
        toy.backward(0.75)
        toy.optimizer.step()
        toy.has(WEIGHTS - step * LR * MEAN)


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
        for worker in MINIBATCH.placement(2)[rank_of_this_process()]:
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
        for worker in MINIBATCH.placement(2)[rank_of_this_process()]:
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
    for _ in MINIBATCH.placement(2)[rank_of_this_process()]:
        images = torch.ones(2, 3, 8, 8).to(memory_format=torch.channels_last)
        model(images).mean().backward()
    before = [parameter.grad.data_ptr() for parameter in model.parameters() if parameter.grad is not None]
    optimizer.synchronize()
    after = [parameter.grad.data_ptr() for parameter in model.parameters() if parameter.grad is not None]
    assert len(before) == 4
    assert before == after


def test_the_optimizer_in_anybody_s_loop() -> None:
    run_ranks(2, optimizer_checks)
