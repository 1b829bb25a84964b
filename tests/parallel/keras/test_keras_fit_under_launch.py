"""A fit of a user's own under `launch`: its steps tell nothing to the guard, and must not be taken for a stall."""

import sys
from pathlib import Path

from ranks import program, run

STALL_TIMEOUT_S = 3
FIT = """
import sys, time
import hvd_imagenet.keras as hvd
import keras
import numpy as np
from hvd_imagenet.keras import callbacks
from hvd_imagenet.recipes import Recipe

class Slow(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        time.sleep(7 if epoch == 1 else 0)  # as long as an epoch takes between two checkpoints

hvd.init()
mine = slice(4 * hvd.rank(), 4 * hvd.rank() + 4)
x, y = np.eye(8, dtype="float32"), np.arange(8) % 2
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
optimizer = hvd.DistributedOptimizer(keras.optimizers.SGD(0.1, momentum=0.9))
model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
recipe = Recipe(minibatch=8, per_worker=4, epochs=2, warmup="none", schedule="cosine")
run = callbacks.open_run(sys.argv[1], recipe, images=8)
validation = callbacks.ExactValidation(x, y)
more = [validation, callbacks.RunLogger(run, validation), callbacks.ResumableCheckpoint(run, validation), Slow()]
model.fit(x[mine], y[mine], batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=more)
"""


def test_a_long_time_between_checkpoints_is_no_stall(tmp_path: Path) -> None:
    (tmp_path / "fit.py").write_text(FIT)
    launch = program("launch", "-np", "2", "--stall-timeout", str(STALL_TIMEOUT_S), "--")
    done = run([*launch, sys.executable, str(tmp_path / "fit.py"), str(tmp_path / "run")], timeout_s=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "summary.json").exists()
