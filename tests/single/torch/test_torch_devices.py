"""Which GPU a rank takes and how images get there, on a machine that only says that it has some."""

from typing import Any

import horovod.torch as hvd
import numpy as np
import pytest
import torch

from hvd_imagenet.errors import UserError
from hvd_imagenet.torch.evaluation import to_device
from hvd_imagenet.torch.session import choose_device


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two GPUs, and what is made the process's own of them."""
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(hvd, "cuda_built", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return taken


@pytest.mark.parametrize("local_rank", [0, 1])
def test_a_process_takes_the_gpu_of_its_local_rank(chosen: list[int], local_rank: int) -> None:
    assert choose_device(local_rank) == torch.device("cuda", local_rank)
    assert chosen == [local_rank]


def test_a_process_takes_the_one_gpu_that_it_alone_is_shown(chosen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert choose_device(1) == torch.device("cuda", 0)
    assert chosen == [0]


def test_more_processes_than_gpus(chosen: list[int]) -> None:
    with pytest.raises(UserError) as caught:
        choose_device(2)
    assert str(caught.value) == (
        "local rank 2 has no GPU: this host has 2; start 2 processes a host at most, or use the CPU with "
        "CUDA_VISIBLE_DEVICES="
    )
    assert chosen == []


def test_horovod_without_cuda(chosen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hvd, "cuda_built", lambda: False)
    with pytest.raises(UserError) as caught:
        choose_device(0)
    assert str(caught.value) == (
        "this host has a GPU, but Horovod was built without CUDA; build it again with HOROVOD_GPU_OPERATIONS=NCCL "
        "hvd-imagenet install-horovod, or use the CPU with CUDA_VISIBLE_DEVICES="
    )


class Recorded:
    """A tensor that notes what is done to it."""

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def pin_memory(self) -> "Recorded":
        self.steps.append("pin_memory")
        return self

    def to(self, device: torch.device, **options: bool) -> "Recorded":
        self.steps.append((device, options))
        return self


@pytest.mark.parametrize(
    ("device", "steps"),
    [
        (torch.device("cuda", 1), ["pin_memory", (torch.device("cuda", 1), {"non_blocking": True})]),
        (torch.device("cpu"), []),
    ],
)
def test_images_are_copied_to_a_gpu_without_waiting(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, steps: list[Any]
) -> None:
    """From memory that may not be paged out: from other memory the copy would make the process wait after all."""
    tensor: Any = Recorded()
    monkeypatch.setattr(torch, "from_numpy", lambda array: tensor)
    assert to_device(np.ones(2), device) is tensor
    assert tensor.steps == steps
