"""Runs a function of a test file on several ranks of Keras, on its backend tensorflow unless another is given."""

from collections.abc import Callable
from typing import Any

from ranks import run_ranks


def run_keras_ranks(
    processes: int, function: Callable[..., None], *arguments: Any, timeout_s: float = 200, **variables: str
) -> str:
    """ranks.run_ranks, with more time for importing and tracing, and few threads for TensorFlow.

    Args:
        processes: number of ranks.
        function: at the top level of a file; it takes the arguments.
        arguments: plain data.
        timeout_s: after which the job is ended.
        variables: of the environment.
    """
    of_keras = {"KERAS_BACKEND": "tensorflow", "TF_NUM_INTEROP_THREADS": "2", **variables}
    return run_ranks(processes, function, *arguments, timeout_s=timeout_s, horovod="hvd_imagenet.keras", **of_keras)
