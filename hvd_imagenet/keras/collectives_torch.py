"""The collectives of horovod.torch in the form that the hook needs."""

from collections.abc import Callable
from typing import Any, TypeVar

import horovod.torch as hvd
import numpy as np
import torch

Result = TypeVar("Result")
_DTYPES = (torch.float16, torch.float32, torch.float64)


def is_sparse(gradient: Any) -> bool:
    """Never treated as sparse: Keras makes no sparse gradients on this backend, and its optimizers take none."""
    return False


def dense(gradient: Any) -> Any:
    """The gradient with all of its rows."""
    return gradient.to_dense() if gradient.is_sparse else gradient


def divide(gradient: Any, divisor: float) -> Any:
    """The gradient divided by a number."""
    return gradient / divisor


def tensor(value: Any) -> torch.Tensor:
    """A tensor of this framework."""
    import keras

    return keras.ops.convert_to_tensor(value)


def outside_of_graph(action: Callable[[], Result]) -> Result:
    """Calls a function."""
    return action()


def without_conversion(function: Callable[..., Result]) -> Callable[..., Result]:
    """Keeps torch.compile out of a function."""
    return function


def allreduce_groups(groups: list[list[Any]], names: list[str], **options: Any) -> list[list[Any]]:
    """Reduces lists of tensors of one dtype each; all are started before the first is waited for.

    Args:
        groups: the tensors.
        names: of the collectives, one a list.
        options: compression, op, prescale_factor, postscale_factor, process_set.

    Returns:
        Lists of new tensors of the same shapes and dtypes.
    """
    compression = options.pop("compression")
    contexts, handles = [], []
    for group, name in zip(groups, names, strict=True):
        sent = [each.to(torch.float32) if each.dtype not in _DTYPES else each for each in group]
        compressed = [compression.compress(each.detach().contiguous()) for each in sent]
        contexts.append([context for _, context in compressed])
        handles.append(hvd.grouped_allreduce_async([each for each, _ in compressed], name=name, **options))
    return [
        [
            compression.decompress(each, context).to(original.dtype)
            for each, context, original in zip(hvd.synchronize(handle), of_group, group, strict=True)
        ]
        for handle, of_group, group in zip(handles, contexts, groups, strict=True)
    ]


def gather_slices(gradient: Any, name: str, process_set: Any) -> Any:
    """Not called: no gradient is sparse here."""
    raise NotImplementedError(name)


def all_true(flag: Any, name: str, process_set: Any) -> Any:
    """Whether a boolean tensor is true on every process."""
    least = hvd.allreduce(flag.to(torch.float32).reshape(1), op=hvd.Min, name=name, process_set=process_set)
    return least[0] > 0.5


def sum_arrays(values: np.ndarray, name: str, process_set: Any) -> np.ndarray:
    """The element-wise sum over all processes."""
    return hvd.allreduce(torch.from_numpy(values), op=hvd.Sum, name=name, process_set=process_set).numpy()


def gather_bytes(data: np.ndarray, name: str, process_set: Any) -> list[np.ndarray]:
    """The bytes of all processes."""
    lengths = hvd.allgather(torch.tensor([len(data)]), name=f"{name}.lengths", process_set=process_set).numpy()
    data = hvd.allgather(torch.from_numpy(data.copy()), name=f"{name}.bytes", process_set=process_set).numpy()
    return np.split(data, np.cumsum(lengths)[:-1])


def broadcast_array(values: np.ndarray, root_rank: int, name: str, process_set: Any) -> np.ndarray:
    """The values of one process."""
    return hvd.broadcast(torch.from_numpy(values), root_rank, name=name, process_set=process_set).numpy()
