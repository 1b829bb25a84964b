"""Horovod's collectives on values: numbers, arrays, tensors and Keras variables; tensors of the backend come back."""

import gc
from typing import Any

import keras

from hvd_imagenet.keras.backend import check_init, horovod
from hvd_imagenet.keras.communication import broadcast_variables
from hvd_imagenet.keras.compiling import compiled_models


def allreduce(
    value: Any,
    name: str | None = None,
    average: bool | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    op: Any = None,
    compression: Any = horovod.Compression.none,
) -> Any:
    """The mean of a value over all processes, or another reduction.

    Args:
        value: anything of the same shape and dtype on every process; the mean of integers is an integer, cut off.
        name: of the collective.
        average: True for op=Average, False for op=Sum; Horovod's older form.
        prescale_factor: multiplies before the reduction.
        postscale_factor: multiplies after it.
        op: hvd.Average, Sum or Adasum; Average if None.
        compression: hvd.Compression.none or .fp16.

    Returns:
        A tensor of the backend.

    Raises:
        ValueError: both average and op, or init() was not called.

    Example:
        >>> horovod.init()
        >>> float(allreduce(3.0))
        3.0
    """
    check_init()
    return horovod.allreduce(
        keras.ops.convert_to_tensor(value),
        average=average,
        name=name,
        prescale_factor=prescale_factor,
        postscale_factor=postscale_factor,
        op=op,
        compression=compression,
    )


def allgather(value: Any, name: str | None = None) -> Any:
    """The values of all processes, one after the other along the first axis.

    Args:
        value: anything whose shape differs between processes in the first axis alone.
        name: of the collective.

    Returns:
        A tensor of the backend.

    Raises:
        ValueError: init() was not called.

    Example:
        >>> horovod.init()
        >>> len(allgather([1.0, 2.0])) == 2 * horovod.size()
        True
    """
    check_init()
    return horovod.allgather(keras.ops.convert_to_tensor(value), name=name)


def broadcast(value: Any, root_rank: int, name: str | None = None) -> Any:
    """The value that one process has.

    Args:
        value: anything of the same shape and dtype on every process.
        root_rank: whose value is taken.
        name: of the collective.

    Returns:
        A tensor of the backend.

    Raises:
        ValueError: init() was not called.

    Example:
        >>> horovod.init()
        >>> float(broadcast(3.0, root_rank=0))
        3.0
    """
    check_init()
    return horovod.broadcast(keras.ops.convert_to_tensor(value), root_rank, name=name)


def reducescatter(value: Any, name: str | None = None, op: Any = horovod.Average) -> Any:
    """The mean of a value over all processes, of which each gets its part of the first axis.

    Args:
        value: anything of the same shape and dtype on every process.
        name: of the collective.
        op: hvd.Average or Sum.

    Returns:
        A tensor of the backend.

    Raises:
        ValueError: init() was not called.

    Example:
        >>> horovod.init()
        >>> len(reducescatter([1.0, 2.0])) * horovod.size()
        2
    """
    check_init()
    return horovod.reducescatter(keras.ops.convert_to_tensor(value), name=name, op=op)


def broadcast_global_variables(root_rank: int) -> None:
    """Gives every process the weights and the optimizer's variables of one, of every model compiled so far.

    Keras 3 keeps no list of global variables. Better take callbacks.BroadcastGlobalVariablesCallback, which also
    finds a model that is built at the first batch, or hvd.broadcast_variables.

    Args:
        root_rank: whose values are taken.

    Raises:
        ValueError: no model was compiled, or one is not built yet.

    Example:
        >>> horovod.init()
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd")
        >>> broadcast_global_variables(0)
    """
    check_init()
    gc.collect()  # a model that the script has dropped is in cycles, and counts no more
    models = [model for model in (each() for each in compiled_models) if model is not None]
    instead = "use callbacks.BroadcastGlobalVariablesCallback(root_rank) in fit()"
    if not models:
        raise ValueError(f"broadcast_global_variables: no model was compiled after DistributedOptimizer; {instead}")
    variables = []
    for model in models:
        if not model.built:
            raise ValueError(f"broadcast_global_variables: {model.name} is not built, so it has no weights; {instead}")
        variables += model.weights + ([] if model.optimizer is None else model.optimizer.variables)
    broadcast_variables(variables, root_rank)
