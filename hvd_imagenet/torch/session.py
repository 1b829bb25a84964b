"""How a PyTorch process joins the job, and which device it computes on."""

import os

import horovod.torch as hvd
import torch

from hvd_imagenet.errors import UserError
from hvd_imagenet.heartbeat import during
from hvd_imagenet.session import check_joined
from hvd_imagenet.torch.communication import HorovodCommunicator, abort_job_on_exception


def join_job(launched_size: int | None = None) -> HorovodCommunicator:
    """Joins the job, or makes one of this process alone; a later exception ends all of it.

    Args:
        launched_size: how many processes the launcher says that it has started; None if there was none.

    Returns:
        The job's communicator.

    Raises:
        UserError: Horovod has found another number of processes; they would all train by themselves.

    Example:
        >>> import sys
        >>> hook = sys.excepthook
        >>> join_job().size >= 1
        True
        >>> sys.excepthook = hook
    """
    with during("waiting for the others"):
        hvd.init()
    abort_job_on_exception()
    check_joined(launched_size, hvd.size())
    return HorovodCommunicator()


def choose_device(local_rank: int) -> torch.device:
    """The GPU of this process's local rank where there are GPUs, else the CPU.

    Args:
        local_rank: among the processes of this host.

    Returns:
        The device, which is now the current one.

    Raises:
        UserError: there are GPUs, but fewer than processes on this host, or Horovod was built without CUDA.

    Example:
        >>> choose_device(0).type in ("cpu", "cuda")
        True
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if not hvd.cuda_built():
        raise UserError(
            "this host has a GPU, but Horovod was built without CUDA; build it again with "
            "HOROVOD_GPU_OPERATIONS=NCCL hvd-imagenet install-horovod, or use the CPU with CUDA_VISIBLE_DEVICES="
        )
    count = torch.cuda.device_count()
    # Slurm's --gpus-per-task shows each process its own GPU alone.
    index = 0 if count == 1 and os.environ.get("CUDA_VISIBLE_DEVICES") else local_rank
    if index >= count:
        raise UserError(
            f"local rank {local_rank} has no GPU: this host has {count}; start {count} processes a host at most, "
            f"or use the CPU with CUDA_VISIBLE_DEVICES="
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def set_backends(deterministic: bool = False, tf32: bool = False) -> None:
    """Chooses how kernels compute, before the first of them.

    The size of a batch does not change, so that cuDNN's search for the fastest convolutions is worth its time. Float32
    means float32, unless the user wants TensorFloat-32: PyTorch itself takes that for convolutions.

    Args:
        deterministic: the same bits from run to run; there is no search then.
        tf32: multiply float32 with 10 bits of mantissa.

    Example:
        >>> set_backends()
        >>> torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
        (True, False)
    """
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
