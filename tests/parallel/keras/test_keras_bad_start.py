"""Mistakes before the first step: a backend that will not do, calls before init()."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ranks import program, run, user_environment

BACKENDS = """
import os
rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
os.environ["KERAS_BACKEND"] = ["tensorflow", "torch"][rank]
import hvd_imagenet.keras as hvd
hvd.init()
print("went on")
"""


def test_ranks_of_different_backends(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(BACKENDS)
    done = run(program("launch", "-np", "2", "--", sys.executable, str(tmp_path / "script.py")), timeout_s=60)
    assert done.returncode != 0
    assert "went on" not in done.stdout
    assert "rank 1 runs Keras on torch, rank 0 on tensorflow; KERAS_BACKEND must be the same" in done.stderr


BEFORE_INIT = """
import keras, hvd_imagenet.keras as hvd, numpy as np
for call in (lambda: hvd.DistributedOptimizer(keras.optimizers.SGD()), lambda: hvd.allreduce(1.0),
             lambda: hvd.broadcast_global_variables(0)):
    try:
        call()
    except ValueError as error:
        print(error)
hvd.init()
for number in range(2):
    try:
        hvd.broadcast_global_variables(0)
    except ValueError as error:
        print(error)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD()), loss="mse")
model.build((None, 2))
optimizer = model.optimizer
import os, warnings
warnings.simplefilter("ignore")
keras.config.set_backend("torch")
rows = np.ones((1, 2)), np.ones((1, 1))
for call in (lambda: model.fit(*rows, verbose=0), lambda: hvd.DistributedOptimizer(optimizer)):
    try:
        call()
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_calls_before_init_and_a_backend_that_changes() -> None:
    done = run([sys.executable, "-c", BEFORE_INIT], timeout_s=60, KERAS_BACKEND="tensorflow")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (
        lines[:3]
        == ["Horovod is not initialised: call hvd.init() once, before anything else of hvd_imagenet.keras"] * 3
    )
    instead = "use callbacks.BroadcastGlobalVariablesCallback(root_rank) in fit()"
    assert lines[3] == f"broadcast_global_variables: no model was compiled after DistributedOptimizer; {instead}"
    assert re.fullmatch(
        rf"broadcast_global_variables: \w+ is not built, so it has no weights; {re.escape(instead)}", lines[4]
    )
    changed = (
        "UserError Keras was loaded anew for 'torch' after hvd_imagenet.keras had been imported for 'tensorflow'; "
        "set KERAS_BACKEND before the first import instead of calling keras.config.set_backend()"
    )
    assert lines[5:] == [changed, changed]


@pytest.mark.parametrize("backend", ["jax", "openvino"])
def test_a_backend_without_horovod(backend: str) -> None:
    command = [sys.executable, "-c", "import hvd_imagenet.keras"]
    environment = user_environment(KERAS_BACKEND=backend)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"hvd_imagenet.errors.UserError: Keras' backend is '{backend}', for which there is no Horovod; "
        "set KERAS_BACKEND=tensorflow or KERAS_BACKEND=torch before the first import of keras"
    )


WITHOUT = """
import sys
sys.modules["horovod.tensorflow"] = None  # as if it had not been built
import hvd_imagenet.keras as hvd
hvd.init()
"""


def test_a_horovod_without_the_framework() -> None:
    done = run([sys.executable, "-c", WITHOUT], timeout_s=60, KERAS_BACKEND="tensorflow")
    assert done.returncode == 1
    assert (
        "ImportError: Horovod cannot be imported for TensorFlow, on which Keras runs; build it with: "
        "hvd-imagenet install-horovod (" in done.stderr
    )
