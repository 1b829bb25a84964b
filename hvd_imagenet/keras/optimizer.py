"""DistributedOptimizer with Horovod's signature, for Keras 3."""

import re
import warnings
from typing import Any

import keras

from hvd_imagenet.keras.backend import BACKEND, check_backend, check_init, horovod
from hvd_imagenet.keras.compiling import adapt_keras
from hvd_imagenet.keras.hook import find_hook, hook_of, innermost
from hvd_imagenet.keras.reduction import Reduction
from hvd_imagenet.keras.saving import keep_exclusions


def DistributedOptimizer(
    optimizer: Any, name: str | None = None, device_dense: str = "", device_sparse: str = "",
    compression: Any = horovod.Compression.none, sparse_as_dense: bool = False,
    gradient_predivide_factor: float = 1.0, op: Any = horovod.Average, backward_passes_per_step: int = 1,
    average_aggregated_gradients: bool = False, num_groups: int = 0, groups: Any = None,
    process_set: Any = horovod.global_process_set, scale_local_gradients: bool = True,
) -> Any:  # fmt: skip
    """Makes an optimizer of Keras reduce its gradients over all processes before it uses them.

    The optimizer itself is changed and returned: its class, configuration and variables stay, and a saved model loads
    without this package. Gradients are reduced before clipping, weight decay and loss scaling, in fused groups, once
    an update. Make it before compile(); a LossScaleOptimizer, also one that compile() makes under mixed_float16, takes
    the reduction over, so that all processes skip a step together.

    Accumulate with the optimizer's own gradient_accumulation_steps (the mean over the passes) or with
    backward_passes_per_step.

    Args:
        optimizer: of Keras, not yet trained if backward_passes_per_step is more than 1.
        name: prefix of the collectives' names; the same on every rank.
        device_dense: TensorFlow's device for dense tensors.
        device_sparse: likewise for sparse ones, ignored: they are gathered where they are.
        compression: hvd.Compression.none, or .fp16 for dense gradients.
        sparse_as_dense: reduce the gradient of an Embedding as a dense one.
        gradient_predivide_factor: f of 1/f before the sum and f/size after it; for op=hvd.Average.
        op: hvd.Average, Sum, or Adasum (a number of ranks that is a power of 2).
        backward_passes_per_step: passes that are accumulated before an update.
        average_aggregated_gradients: False for the sum of these passes, True for their mean.
        num_groups: groups, by its old name.
        groups: how many groups of gradients, or a list of lists of variables; groups of 32 MB if None.
        process_set: over which to reduce; this process must be in it.
        scale_local_gradients: divide the gradients of variables given to optimizer.register_local_var() by the size.

    Returns:
        The optimizer, with register_local_var(variable).

    Raises:
        TypeError: not an optimizer of Keras.
        ValueError: it is distributed already, init() was not called, or an argument is out of its range.

    Example:
        >>> horovod.init()
        >>> optimizer = DistributedOptimizer(keras.optimizers.SGD(0.1 * horovod.size()))
        >>> type(optimizer).__name__
        'SGD'
    """
    check_backend()
    check_optimizer(optimizer)
    check_init()
    if num_groups != 0:
        warnings.warn("num_groups is now called groups", DeprecationWarning, stacklevel=2)
        groups = num_groups if groups is None else groups
    _check_options(op, gradient_predivide_factor, groups, process_set, device_dense or device_sparse)
    passes = _accumulate(optimizer, backward_passes_per_step, average_aggregated_gradients)
    adapt_keras()
    hook = hook_of(optimizer)
    hook.move_to(optimizer)  # it may be there already, for a plan of learning rates
    hook.reduction = Reduction(
        op=op, name=_operation_name(name), compression=compression, sparse_as_dense=sparse_as_dense,
        gradient_predivide_factor=gradient_predivide_factor, groups=groups, process_set=process_set,
        scale_local_gradients=scale_local_gradients, device_dense=device_dense, device_sparse=device_sparse,
        passes=passes,
    )  # fmt: skip
    keep_exclusions(hook)
    object.__setattr__(optimizer, "register_local_var", hook.reduction.local.append)
    return optimizer


def check_optimizer(optimizer: Any) -> None:
    """Refuses what is no optimizer of Keras, and what is distributed already.

    Args:
        optimizer: anything.

    Raises:
        TypeError: not an optimizer of Keras.
        ValueError: distributed already.

    Example:
        >>> check_optimizer(keras.optimizers.SGD())
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(f"DistributedOptimizer needs an optimizer of Keras 3, {_what_it_is(optimizer)}")
    hook = find_hook(optimizer)
    if hook is not None and hook.reduction is not None:
        raise ValueError(
            f"this {type(optimizer).__name__} is distributed already: DistributedOptimizer must be called once "
            "(hvd.load_model has done it)"
        )


def _what_it_is(thing: Any) -> str:
    if isinstance(thing, str):
        return f"not the name {thing!r}: write keras.optimizers.get({thing!r})"
    if isinstance(thing, type):
        return f"not a class: write {_written(thing)}"
    kind = type(thing)
    if kind.__module__.startswith("torch."):
        return f"not {kind.__module__}.{kind.__name__}: for a loop in PyTorch use hvd_imagenet.torch"
    if hasattr(thing, "apply_gradients") or hasattr(thing, "minimize"):
        return f"not {kind.__module__}.{kind.__name__}: write {_written(kind)}"
    return f"not {thing!r} of {kind.__module__}.{kind.__name__}"


def _written(kind: type) -> str:
    """How Keras 3 has an optimizer of another Keras or TensorFlow."""
    name = kind.__name__.removesuffix("Optimizer")
    name = "SGD" if name in ("GradientDescent", "Momentum") else name
    known = issubclass(kind, keras.optimizers.Optimizer) or hasattr(keras.optimizers, name)
    if not known:
        return "one of keras.optimizers"
    return f"keras.optimizers.{name}()" if hasattr(keras.optimizers, name) else f"{kind.__name__}()"


def _check_options(op: Any, predivide_factor: float, groups: Any, process_set: Any, device: str) -> None:
    if op not in (horovod.Average, horovod.Sum, horovod.Adasum):
        raise ValueError(f"op must be hvd.Average, hvd.Sum or hvd.Adasum, not {op!r}")
    if op == horovod.Adasum and process_set.size() & (process_set.size() - 1):
        raise ValueError(f"op=hvd.Adasum needs a number of ranks that is a power of 2, not {process_set.size()}")
    if predivide_factor != 1.0 and op != horovod.Average:
        raise ValueError("gradient_predivide_factor must be 1.0 unless op is hvd.Average")
    if not predivide_factor > 0:
        raise ValueError(f"gradient_predivide_factor must be more than 0, not {predivide_factor!r}")
    lists = isinstance(groups, list) and all(isinstance(group, (list, tuple)) for group in groups)
    number = isinstance(groups, int) and not isinstance(groups, bool) and groups > 0
    if not (groups is None or lists or number):
        raise ValueError(f"groups must be a positive integer or a list of lists of variables, not {groups!r}")
    if not process_set.included():
        raise ValueError(f"process_set {process_set} does not include rank {horovod.rank()}")
    if device and BACKEND != "tensorflow":
        raise ValueError(f"device_dense and device_sparse are TensorFlow's: leave them out, {device!r} is not used")


def _accumulate(optimizer: Any, passes: int, average: bool) -> int:
    """Sets up the optimizer's own accumulation; what its mean is to be multiplied with."""
    if not (isinstance(passes, int) and passes >= 1):
        raise ValueError(f"backward_passes_per_step must be a positive integer, not {passes!r}")
    if passes == 1:
        return 1
    inner = innermost(optimizer)
    if inner.gradient_accumulation_steps:
        raise ValueError(
            f"backward_passes_per_step={passes} and the optimizer's gradient_accumulation_steps="
            f"{inner.gradient_accumulation_steps}: give one of the two"
        )
    if inner.built:
        raise ValueError(
            f"backward_passes_per_step={passes}: the optimizer has variables already and cannot begin to accumulate; "
            "call DistributedOptimizer before compile() or build()"
        )
    inner.gradient_accumulation_steps = passes
    return 1 if average else passes


def _operation_name(name: str | None) -> str:
    """TensorFlow takes no other characters in the name of an operation."""
    return re.sub(r"[^A-Za-z0-9_.]", "_", name) if name else "hvd_imagenet"


def PartialDistributedOptimizer(optimizer: Any, *arguments: Any, local_layers: Any = None, **options: Any) -> Any:
    """DistributedOptimizer, with layers whose weights stay each process's own.

    Args:
        optimizer: of Keras.
        arguments: those of DistributedOptimizer.
        local_layers: a layer or several, built already; their gradients are not reduced.
        options: those of DistributedOptimizer.

    Returns:
        The optimizer.

    Raises:
        ValueError: not a layer, or one without weights, besides what DistributedOptimizer raises.

    Example:
        >>> horovod.init()
        >>> layer = keras.layers.Dense(1)
        >>> layer.build((None, 2))
        >>> _ = PartialDistributedOptimizer(keras.optimizers.SGD(), local_layers=[layer])
    """
    layers = [local_layers] if isinstance(local_layers, keras.layers.Layer) else list(local_layers or [])
    for layer in layers:
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(f"local_layers must be layers of Keras, not {layer!r}")
        if not layer.trainable_weights:
            raise ValueError(f"local_layers: {layer.name} has no weights yet; build the model first")
    optimizer = DistributedOptimizer(optimizer, *arguments, **options)
    for layer in layers:
        for variable in layer.trainable_weights:
            optimizer.register_local_var(variable)
    return optimizer
