"""Importing Keras: without TensorFlow's start-up lines, and not for a backend that Horovod does not know."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from hvd_imagenet.errors import UserError

FRAMEWORKS = {"tensorflow": "TensorFlow", "torch": "PyTorch"}
# Lines of INFO that are written before any setting of TensorFlow's takes effect, and the line that announces them.
_NOISE = re.compile(rb"WARNING: All log messages before absl|I\d{4} \d\d:|To enable the following instructions:")


def check_supported(backend: str) -> None:
    """Refuses a backend of Keras for which there is no Horovod.

    Args:
        backend: as KERAS_BACKEND has it.

    Raises:
        UserError: neither tensorflow nor torch.

    Example:
        >>> check_supported("torch")
    """
    if backend not in FRAMEWORKS:
        raise UserError(
            f"Keras' backend is {backend!r}, for which there is no Horovod; set KERAS_BACKEND=tensorflow or "
            "KERAS_BACKEND=torch before the first import of keras"
        )


@contextmanager
def quiet_start() -> Iterator[None]:
    """Holds back what is written to standard error, and then writes all but TensorFlow's start-up lines.

    Example:
        >>> with quiet_start():
        ...     import keras
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # warnings and errors are still shown
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held_back:
        standard_error = os.dup(2)
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(standard_error, 2)
            held_back.seek(0)
            for line in held_back:
                if not _NOISE.match(line):
                    os.write(standard_error, line)
            os.close(standard_error)


def import_keras() -> None:
    """Imports Keras, quietly, for the backend that is set.

    Raises:
        UserError: a backend for which there is no Horovod.

    Example:
        >>> import_keras()
    """
    if "KERAS_BACKEND" in os.environ:
        check_supported(os.environ["KERAS_BACKEND"])  # before Keras looks for its framework
    if "keras" not in sys.modules:
        with quiet_start():
            import keras
    else:
        import keras
    check_supported(keras.backend.backend())
