"""How a Keras process joins the job, and which device it computes on."""

import os

from hvd_imagenet.errors import UserError
from hvd_imagenet.heartbeat import during
from hvd_imagenet.keras.backend import BACKEND, horovod
from hvd_imagenet.keras.communication import HorovodCommunicator, init
from hvd_imagenet.session import check_joined


def check_backend() -> None:
    """Refuses another backend than TensorFlow; call it before TensorFlow is imported, which takes its time and talks.

    Raises:
        UserError: Keras runs on another backend.

    Example:
        >>> check_backend()
    """
    if BACKEND != "tensorflow":
        raise UserError(
            f"KERAS_BACKEND={BACKEND}: the training step of --framework keras is TensorFlow's; "
            f"unset KERAS_BACKEND, or use --framework torch"
        )


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
        init()
    check_joined(launched_size, horovod.size())
    return HorovodCommunicator()


def choose_device(local_rank: int) -> str:
    """Gives this process the GPU of its local rank where there are GPUs; call it before anything is computed.

    Args:
        local_rank: among the processes of this host.

    Returns:
        "cpu" or "gpu".

    Raises:
        UserError: there are GPUs, but fewer than processes on this host, or Horovod was built without CUDA.

    Example:
        >>> choose_device(0) in ("cpu", "gpu")
        True
    """
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return "cpu"
    if not horovod.cuda_built():
        raise UserError(
            "this host has a GPU, but Horovod was built without CUDA; build it again with "
            "HOROVOD_GPU_OPERATIONS=NCCL hvd-imagenet install-horovod, or use the CPU with CUDA_VISIBLE_DEVICES="
        )
    # Slurm's --gpus-per-task shows each process its own GPU alone.
    index = 0 if len(devices) == 1 and os.environ.get("CUDA_VISIBLE_DEVICES") else local_rank
    if index >= len(devices):
        raise UserError(
            f"local rank {local_rank} has no GPU: this host has {len(devices)}; start {len(devices)} processes a host "
            f"at most, or use the CPU with CUDA_VISIBLE_DEVICES="
        )
    tf.config.set_visible_devices(devices[index], "GPU")
    tf.config.experimental.set_memory_growth(devices[index], True)
    return "gpu"


def set_backends(deterministic: bool = False, tf32: bool = False) -> None:
    """Chooses how kernels compute, before the first of them.

    Args:
        deterministic: the same bits from run to run; TensorFlow cannot take it back.
        tf32: let GPUs multiply float32 with 10 bits of mantissa, which is TensorFlow's own default.

    Example:
        >>> set_backends()
        >>> import tensorflow
        >>> tensorflow.config.experimental.tensor_float_32_execution_enabled()
        False
    """
    import tensorflow as tf

    if deterministic:
        tf.config.experimental.enable_op_determinism()
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
