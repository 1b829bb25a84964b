"""Which backend Keras runs on, and Horovod for it; the other framework is not imported."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import keras

from hvd_imagenet.errors import UserError
from hvd_imagenet.keras.startup import FRAMEWORKS


def _horovod_for(backend: str) -> ModuleType:
    """Horovod's module of the framework that Keras runs on."""
    try:
        if backend == "tensorflow":
            import horovod.tensorflow as horovod
        else:
            import horovod.torch as horovod
    except ImportError as error:
        raise ImportError(
            f"Horovod cannot be imported for {FRAMEWORKS[backend]}, on which Keras runs; build it with: "
            f"hvd-imagenet install-horovod ({str(error).splitlines()[0]})"
        ) from error
    return horovod


BACKEND: str = keras.backend.backend()
horovod: Any = _horovod_for(BACKEND)
HorovodInternalError: type[Exception] = import_module("horovod.common.exceptions").HorovodInternalError
collectives: Any = import_module(f"hvd_imagenet.keras.collectives_{BACKEND}")


def check_backend() -> None:
    """Raises an error if Keras has been loaded anew for another backend since this package was imported.

    Raises:
        UserError: keras.config.set_backend() was called.

    Example:
        >>> check_backend()
    """
    now: Any = sys.modules.get("keras", keras)
    if now is not keras:
        raise UserError(
            f"Keras was loaded anew for {now.backend.backend()!r} after hvd_imagenet.keras had been imported for "
            f"{BACKEND!r}; set KERAS_BACKEND before the first import instead of calling keras.config.set_backend()"
        )


def check_init() -> None:
    """Raises an error before init().

    Raises:
        ValueError: Horovod has not been initialised.

    Example:
        >>> horovod.init()
        >>> check_init()
    """
    if not horovod.is_initialized():
        raise ValueError("Horovod is not initialised: call hvd.init() once, before anything else of hvd_imagenet.keras")
