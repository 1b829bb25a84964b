"""Horovod for Keras 3: `import hvd_imagenet.keras as hvd` instead of `import horovod.tensorflow.keras as hvd`.

Also callbacks, networks and layers for the paper's recipe. Keras is imported here, and all else when it is first
used, so that models and layers need no Horovod.
"""

from importlib import import_module
from typing import Any

from hvd_imagenet.keras.startup import import_keras

import_keras()

_OF_HOROVOD = (
    "Adasum", "Average", "Compression", "ProcessSet", "Sum", "add_process_set", "allgather_object",
    "broadcast_object", "ccl_built", "cross_rank", "cross_size", "cuda_built", "ddl_built", "global_process_set",
    "gloo_built", "gloo_enabled", "is_initialized", "local_rank", "local_size", "mpi_built", "mpi_enabled",
    "mpi_threads_supported", "nccl_built", "rank", "remove_process_set", "rocm_built", "shutdown", "size",
    "start_timeline", "stop_timeline",
)  # fmt: skip
_OF_MODULES = {
    "DistributedOptimizer": "optimizer",
    "HorovodCommunicator": "communication",
    "PartialDistributedOptimizer": "optimizer",
    "allgather": "values",
    "allreduce": "values",
    "broadcast": "values",
    "broadcast_global_variables": "values",
    "broadcast_variables": "communication",
    "init": "communication",
    "load_model": "saving",
    "reducescatter": "values",
}
_MODULES = ("callbacks", "data")
__all__ = [*_OF_HOROVOD, *_OF_MODULES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _OF_HOROVOD:
        return getattr(import_module("hvd_imagenet.keras.backend").horovod, name)
    if name in _OF_MODULES:
        return getattr(import_module(f"hvd_imagenet.keras.{_OF_MODULES[name]}"), name)
    if name in _MODULES:
        return import_module(f"hvd_imagenet.keras.{name}")
    if name == "elastic":
        # Not AttributeError, whose message `from hvd_imagenet.keras import elastic` would lose.
        raise ImportError(
            "hvd_imagenet.keras has no elastic training: resume from a checkpoint on any number of processes instead, "
            "with callbacks.ResumableCheckpoint"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
