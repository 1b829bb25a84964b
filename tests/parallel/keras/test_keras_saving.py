"""Models saved by rank 0: loaded by a process without this package, and by hvd.load_model to go on training."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras_cases as cases
import numpy as np
import pytest
from keras_ranks import run_keras_ranks
from ranks import user_environment

ADAMW = {"learning_rate": 0.0625, "weight_decay": 0.25}
LOAD = """
import sys
import keras
import numpy as np
for name in sys.argv[2:]:
    model = keras.models.load_model(f"{sys.argv[1]}/{name}.keras")
    print(name, type(model.optimizer).__name__, float(model.optimizer.learning_rate))
    values = [keras.ops.convert_to_numpy(each) for each in [*model.weights, *model.optimizer.variables]]
    np.savez(f"{sys.argv[1]}/{name}-loaded.npz", *values)
assert not any(name.startswith(("hvd_imagenet", "horovod")) for name in sys.modules)
"""


def values_of(model: Any) -> cases.Arrays:
    import keras

    return [keras.ops.convert_to_numpy(each) for each in [*model.weights, *model.optimizer.variables]]


def go_on(model: Any, name: str) -> cases.Arrays:
    import hvd_imagenet.keras as hvd

    cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
    values = values_of(model)
    cases.same_on_all_ranks(name, values)
    return values


def models() -> "dict[str, Any]":
    """Compiled models whose optimizers are distributed."""
    import keras

    import hvd_imagenet.keras as hvd

    def compiled(optimizer: Any, exclude: Any = None, **distribution: Any) -> Any:
        model = cases.network(cases.problem()[2])
        if exclude is not None:
            optimizer.exclude_from_weight_decay(**exclude(model))
        model.compile(hvd.DistributedOptimizer(optimizer, **distribution), loss="mse")
        return model

    momentum = {"learning_rate": 0.125, "momentum": 0.875}
    scaled = keras.optimizers.LossScaleOptimizer
    return {
        "momentum": compiled(cases.optimizer("SGD", **momentum)),
        "sum": compiled(cases.optimizer("SGD", **momentum), backward_passes_per_step=5),
        "by_list": compiled(cases.optimizer("AdamW", **ADAMW), lambda m: {"var_list": [m.weights[0], m.weights[3]]}),
        "by_name": compiled(cases.optimizer("AdamW", **ADAMW), lambda m: {"var_names": ["bias", "beta"]}),
        "scaled": compiled(
            scaled(cases.optimizer("SGD", **momentum, weight_decay=0.25), initial_scale=16.0),
        ),
        "own": compiled(own_class()(0.125)),
    }


def own_class() -> Any:
    import keras

    class Plain(keras.optimizers.Optimizer):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            self.assign_sub(variable, gradient * keras.ops.cast(learning_rate, variable.dtype))

    return Plain


def save_and_load(folder: str) -> None:
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.hook import find_hook

    for name, model in models().items():
        go_on(model, name)
        if name == "momentum":
            model.optimizer.learning_rate = 0.03125
        file = f"{folder}/{name}.keras"
        if hvd.rank() == 0:
            model.save(file)
            np.savez(f"{folder}/{name}.npz", *values_of(model))
        hvd.allreduce(0.0)
        custom = {"custom_optimizers": [own_class()]} if name == "own" else {}
        loaded = hvd.load_model(file, **custom)
        assert find_hook(loaded.optimizer).reduction is not None
        for one, other in zip(values_of(loaded), values_of(model), strict=True):
            assert np.array_equal(one, other), name
        cases.compare(f"{name} goes on", go_on(loaded, name), go_on(model, name), 1e-6)
    plain = keras.models.load_model(f"{folder}/by_list.keras")
    again = hvd.load_model(f"{folder}/by_list.keras")
    decays = [[model.optimizer._use_weight_decay(each) for each in model.weights] for model in (plain, again)]
    assert decays == [[True] * 4, [False, True, True, False]], decays
    named = hvd.load_model(f"{folder}/by_name.keras", compression=hvd.Compression.fp16)
    assert [named.optimizer._use_weight_decay(each) for each in named.weights] == [True, False, True, False]
    assert find_hook(named.optimizer).reduction.compression is hvd.Compression.fp16


def untrained_and_older_files(folder: str) -> None:
    """Saved before the first step; in Keras' older format; without an optimizer."""
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.hook import find_hook

    model, in_older = models()["by_list"], cases.network(cases.problem()[2])
    # Keras itself cannot load the older format with the name "mse" for a loss.
    optimizer = hvd.DistributedOptimizer(cases.optimizer("Adam", learning_rate=0.125))
    in_older.compile(optimizer, loss=keras.losses.MeanSquaredError())
    go_on(in_older, "older")
    if hvd.rank() == 0:
        model.save(f"{folder}/untrained.keras")
        in_older.save(f"{folder}/older.h5")
        cases.network(cases.problem()[2]).save(f"{folder}/bare.keras")
    hvd.allreduce(0.0)
    loaded = hvd.load_model(f"{folder}/untrained.keras")
    assert [loaded.optimizer._use_weight_decay(each) for each in loaded.weights] == [False, True, True, False]
    cases.compare("untrained", go_on(loaded, "untrained"), go_on(model, "untrained"), 1e-6)
    older = hvd.load_model(f"{folder}/older.h5")
    assert find_hook(older.optimizer).reduction is not None
    assert all(np.array_equal(*pair) for pair in zip(values_of(older), values_of(in_older), strict=True))
    if hvd.rank() == 0:
        resumed = older  # as Horovod's examples do it: the file is read there alone
    else:
        resumed = cases.network(cases.problem()[2])
        optimizer = hvd.DistributedOptimizer(cases.optimizer("Adam", learning_rate=0.5))
        resumed.compile(optimizer, loss=keras.losses.MeanSquaredError())
    broadcast = hvd.callbacks.BroadcastGlobalVariablesCallback(0)
    expected = go_on(in_older, "older")
    cases.fit(resumed, cases.own_rows, cases.BATCH // hvd.size(), callbacks=[broadcast])
    cases.compare("older", values_of(resumed), expected, 1e-6)
    cases.same_on_all_ranks("older", values_of(resumed))
    bare = hvd.load_model(f"{folder}/bare.keras")
    assert not bare.compiled
    with pytest.raises(ValueError, match="Keras 3 has no legacy optimizers"):
        hvd.load_model(f"{folder}/bare.keras", legacy_opts=True)


def save_and_load_all(folder: str) -> None:
    save_and_load(folder)
    untrained_and_older_files(folder)


def test_a_saved_model_loads_with_and_without_this_package(tmp_path: Path) -> None:
    run_keras_ranks(2, save_and_load_all, tmp_path)
    names = ["momentum", "sum", "by_list", "by_name", "scaled"]
    command = [sys.executable, "-c", LOAD, str(tmp_path), *names]
    done = subprocess.run(
        command, cwd=tmp_path, env=user_environment(), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "momentum SGD 0.03125",
        "sum SGD 0.125",
        "by_list AdamW 0.0625",
        "by_name AdamW 0.0625",
        "scaled LossScaleOptimizer 0.125",
    ]
    for name in names:
        saved, loaded = np.load(tmp_path / f"{name}.npz"), np.load(tmp_path / f"{name}-loaded.npz")
        assert len(saved.files) == len(loaded.files) > 6
        for key in saved.files:
            np.testing.assert_array_equal(saved[key], loaded[key], err_msg=f"{name}: {key}")
