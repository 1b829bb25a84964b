"""The collectives of horovod.tensorflow in the form that the hook needs; stable names, whatever scope they are in."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import horovod.tensorflow as hvd
import numpy as np
import tensorflow as tf

Result = TypeVar("Result")
# What Horovod's operations for TensorFlow take; others travel as float32.
_DTYPES = (tf.float16, tf.float32, tf.float64)


def is_sparse(gradient: Any) -> bool:
    """Whether a gradient has rows for some indices alone."""
    return isinstance(gradient, tf.IndexedSlices)


def dense(gradient: Any) -> Any:
    """The gradient with all of its rows."""
    return tf.convert_to_tensor(gradient)


def divide(gradient: Any, divisor: float) -> Any:
    """The gradient, dense or not, divided by a number."""
    if is_sparse(gradient):
        return tf.IndexedSlices(gradient.values / divisor, gradient.indices, gradient.dense_shape)
    return gradient / divisor


def tensor(value: Any) -> tf.Tensor:
    """A tensor of this framework."""
    return tf.convert_to_tensor(value)


def outside_of_graph(action: Callable[[], Result]) -> Result:
    """Calls a function eagerly, also where a graph is being traced."""
    with tf.init_scope():
        return action()


def without_conversion(function: Callable[..., Result]) -> Callable[..., Result]:
    """Keeps AutoGraph from rewriting a function, and from rewording its errors."""
    return tf.autograph.experimental.do_not_convert(function)


def allreduce_groups(groups: list[list[Any]], names: list[str], **options: Any) -> list[list[Any]]:
    """Reduces lists of dense tensors of one dtype each, a list at a time, as soon as all of it is there.

    Args:
        groups: the tensors.
        names: of the collectives, one a list.
        options: of horovod.tensorflow.grouped_allreduce.

    Returns:
        Lists of the same shapes and dtypes.
    """
    return [_allreduce_group(group, name, dict(options)) for group, name in zip(groups, names, strict=True)]


def _allreduce_group(tensors: list[Any], name: str, options: dict[str, Any]) -> list[Any]:
    dtype = tensors[0].dtype
    if dtype not in _DTYPES:
        tensors = [tf.cast(each, tf.float32) for each in tensors]
    if options["op"] == hvd.Adasum:  # upstream's grouped one fails on an undefined name
        options.pop("device_sparse")
        reduced = [
            hvd.allreduce(each, name=f"{name}.{index}", ignore_name_scope=True, **options)
            for index, each in enumerate(tensors)
        ]
    else:
        reduced = hvd.grouped_allreduce(tensors, name=name, ignore_name_scope=True, **options)
    return [tf.cast(each, dtype) for each in reduced] if dtype not in _DTYPES else list(reduced)


def gather_slices(gradient: tf.IndexedSlices, name: str, process_set: Any) -> tf.IndexedSlices:
    """All processes' rows and indices, one after the other; their dense forms add up."""
    values = hvd.allgather(gradient.values, f"{name}.values", ignore_name_scope=True, process_set=process_set)
    indices = hvd.allgather(gradient.indices, f"{name}.indices", ignore_name_scope=True, process_set=process_set)
    return tf.IndexedSlices(values, indices, gradient.dense_shape)


def all_true(flag: Any, name: str, process_set: Any) -> Any:
    """Whether a boolean tensor is true on every process."""
    least = hvd.allreduce(
        tf.cast(flag, tf.float32), op=hvd.Min, name=name, ignore_name_scope=True, process_set=process_set
    )
    return least > 0.5


def sum_arrays(values: np.ndarray, name: str, process_set: Any) -> np.ndarray:
    """The element-wise sum over all processes."""
    with tf.device("cpu"):
        return outside_of_graph(
            lambda: hvd.allreduce(tf.constant(values), op=hvd.Sum, name=name, process_set=process_set).numpy()
        )


def gather_bytes(data: np.ndarray, name: str, process_set: Any) -> list[np.ndarray]:
    """The bytes of all processes; also from processes that use horovod.torch, to find out about them."""

    def gather() -> list[np.ndarray]:
        set_id = process_set.process_set_id
        with tf.device("cpu"):
            lengths = _allgather(f"{name}.lengths", tf.int64, set_id)(tf.constant([len(data)], tf.int64)).numpy()
            return np.split(_allgather(f"{name}.bytes", tf.uint8, set_id)(data).numpy(), np.cumsum(lengths)[:-1])

    return outside_of_graph(gather)


@functools.cache
def _allgather(name: str, dtype: tf.DType, process_set_id: int) -> Callable[..., tf.Tensor]:
    """Named as horovod.torch names its own; an eager operation of TensorFlow would have no name of its own."""
    process_set = hvd.mpi_ops._temp_process_set_object(process_set_id)
    return tf.function(
        lambda values: hvd.allgather(values, f"allgather.{name}", ignore_name_scope=True, process_set=process_set),
        input_signature=[tf.TensorSpec([None], dtype)],
        autograph=False,
    )


def broadcast_array(values: np.ndarray, root_rank: int, name: str, process_set: Any) -> np.ndarray:
    """The values of one process."""
    with tf.device("cpu"):
        return outside_of_graph(
            lambda: hvd.broadcast(tf.constant(values), root_rank, name=name, process_set=process_set).numpy()
        )
