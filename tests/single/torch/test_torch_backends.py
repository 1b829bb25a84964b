"""How kernels compute; what a CPU can tell of it."""

from collections.abc import Iterator

import pytest
import torch

from hvd_imagenet.torch.session import set_backends


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    set_backends()


@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize("deterministic", [True, False])
def test_backends(deterministic: bool, tf32: bool) -> None:
    set_backends(deterministic, tf32)
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert torch.backends.cudnn.benchmark is not deterministic
    assert torch.backends.cudnn.allow_tf32 is tf32
    assert torch.backends.cuda.matmul.allow_tf32 is tf32
