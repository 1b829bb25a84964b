"""How kernels compute; what a CPU can tell of it."""

import subprocess
import sys

import pytest

# A process of its own: TensorFlow cannot take back that it is deterministic.
ASK = """
import sys
import tensorflow as tf
from tensorflow.python.framework import config
from hvd_imagenet.keras.session import set_backends

set_backends(*(word == "True" for word in sys.argv[1:]))
print(config.is_op_determinism_enabled(), tf.config.experimental.tensor_float_32_execution_enabled())
"""


@pytest.mark.parametrize(("deterministic", "tf32"), [(True, False), (False, True)])
def test_backends(deterministic: bool, tf32: bool) -> None:
    words = [sys.executable, "-c", ASK, str(deterministic), str(tf32)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == [str(deterministic), str(tf32)]
