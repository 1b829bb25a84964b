"""Which GPU a Keras rank takes, and that its memory grows, on a machine that only says that it has some."""

from typing import Any

import pytest
import tensorflow as tf

from hvd_imagenet.errors import UserError
from hvd_imagenet.keras import session
from hvd_imagenet.keras.session import choose_device

GPUS = ["/gpu:0", "/gpu:1"]


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Two GPUs, and what is done with them."""
    done: list[Any] = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: GPUS if kind == "GPU" else [])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda device, kind: done.append((device, kind)))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda device, grows: done.append((device, grows)))
    monkeypatch.setattr(session.horovod, "cuda_built", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return done


@pytest.mark.parametrize("local_rank", [0, 1])
def test_a_process_sees_the_gpu_of_its_local_rank_and_takes_memory_as_it_needs_it(
    chosen: list[Any], local_rank: int
) -> None:
    assert choose_device(local_rank) == "gpu"
    assert chosen == [(GPUS[local_rank], "GPU"), (GPUS[local_rank], True)]


def test_a_process_takes_the_one_gpu_that_it_alone_is_shown(chosen: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: GPUS[:1])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert choose_device(1) == "gpu"
    assert chosen[0] == (GPUS[0], "GPU")


def test_more_processes_than_gpus(chosen: list[Any]) -> None:
    with pytest.raises(UserError) as caught:
        choose_device(2)
    assert str(caught.value) == (
        "local rank 2 has no GPU: this host has 2; start 2 processes a host at most, or use the CPU with "
        "CUDA_VISIBLE_DEVICES="
    )
    assert chosen == []


def test_horovod_without_cuda(chosen: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.horovod, "cuda_built", lambda: False)
    with pytest.raises(UserError, match=r"^this host has a GPU, but Horovod was built without CUDA; build it again"):
        choose_device(0)
