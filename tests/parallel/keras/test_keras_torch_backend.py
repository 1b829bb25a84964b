"""The same hook on Keras' backend torch, through horovod.torch, in a process that never imports TensorFlow."""

import sys
from pathlib import Path

import keras_cases as cases
import numpy as np
import pytest
from keras_cases import reference, sgd
from keras_ranks import run_keras_ranks
from test_keras_optimizer import train
from test_keras_optimizer_gradients import accumulated, clipped, frozen_and_unused, moving_average
from test_keras_optimizer_loops import OPTIONS, check, distributed, several_fits, train_on_batch
from test_keras_optimizer_loss_scale import overflow_on_one_rank


def planned_rates() -> None:
    """Set before each step, as a callback does it."""
    import hvd_imagenet.keras as hvd
    from hvd_imagenet.core.momentum import State, correct_momentum, paper_step
    from hvd_imagenet.keras.hook import hook_of

    inputs, targets, start = cases.problem()
    model = distributed()
    states, old = [State(weight, np.zeros_like(weight)) for weight in start], OPTIONS["learning_rate"]
    for step, rate in enumerate([0.125, 0.25, 0.0625, 0.5, 0.125]):
        rows = slice(step * cases.BATCH, (step + 1) * cases.BATCH)
        hook_of(model.optimizer).plan_learning_rates([rate])
        model.train_on_batch(cases.own_rows(inputs[rows]), cases.own_rows(targets[rows]))
        gradients = cases.gradient([state.weights for state in states], inputs[rows], targets[rows])
        states = [
            paper_step(State(state.weights, correct_momentum(state.momentum, rate, old)), g, rate, 0.875)
            for state, g in zip(states, gradients, strict=True)
        ]
        old = rate
    cases.compare("plan", cases.weights_of(model), [state.weights for state in states], cases.tight())
    assert hvd.size() == 2


def options() -> None:
    import keras

    import hvd_imagenet.keras as hvd

    mean = reference(sgd(0.25))
    double = reference(sgd(0.25), clip=lambda gradients: [2 * g for g in gradients])
    for distribution, expected, tolerance in [
        ({"compression": hvd.Compression.fp16}, mean, 3e-3),
        ({"gradient_predivide_factor": 4.0}, mean, cases.tight()),
        ({"op": hvd.Sum}, double, cases.tight()),
        ({"groups": 2, "name": "named"}, mean, cases.tight()),
    ]:
        model = cases.network(cases.problem()[2])
        optimizer = hvd.DistributedOptimizer(keras.optimizers.SGD(0.25), **distribution)
        model.compile(optimizer, loss="mse", jit_compile=True)
        assert model.jit_compile is False
        result = cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
        cases.same_on_all_ranks(str(distribution), result)
        cases.compare(str(distribution), result, expected, tolerance)
    with pytest.raises(ValueError, match="device_dense and device_sparse are TensorFlow's: leave them out"):
        hvd.DistributedOptimizer(keras.optimizers.SGD(), device_dense="/gpu:0")


def bfloat16() -> None:
    import keras

    import hvd_imagenet.keras as hvd

    layer = keras.layers.Dense(cases.OUTPUTS, kernel_initializer="ones", dtype="bfloat16")
    model = keras.Sequential([keras.Input((cases.INPUTS,)), layer])
    model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(0.25)), loss="mse")
    before = [value.astype(np.float32) for value in cases.weights_of(model)]
    cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
    after = [value.astype(np.float32) for value in cases.weights_of(model)]
    cases.same_on_all_ranks("bfloat16", after)
    assert not np.array_equal(before[0], after[0])


def values_and_mistakes() -> None:
    import keras
    import torch

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.errors import AgreedError

    rank = hvd.rank()
    assert float(hvd.allreduce(float(rank))) == 0.5
    assert hvd.allgather(np.full(rank + 1, rank)).tolist() == [0, 1, 1]
    assert hvd.broadcast(keras.Variable([rank + 3.0]), root_rank=1).tolist() == [4.0]
    assert hvd.reducescatter([float(rank), 2.0]).tolist() == [[0.5], [2.0]][rank]
    assert hvd.broadcast_object({"rank": rank}, root_rank=1) == {"rank": 1}
    assert isinstance(hvd.allreduce(1.0), torch.Tensor)
    variables = [keras.Variable([float(rank)], name="w"), keras.Variable(rank, dtype="int32", trainable=False)]
    hvd.broadcast_variables(variables, root_rank=1)
    assert [variable.numpy().tolist() for variable in variables] == [[1.0], 1]
    model = keras.Sequential([keras.Input((cases.INPUTS,)), keras.layers.Dense(3 + rank)])
    model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD()), loss="mse")
    with pytest.raises(AgreedError, match=r"rank 1 has .*kernel \[5, 4\] float64 with a dense gradient, where rank 0"):
        model.train_on_batch(np.zeros((2, cases.INPUTS)), np.zeros((2, 3 + rank)))
    with pytest.raises(TypeError, match=r"not torch\.optim\.sgd\.SGD: for a loop in PyTorch use hvd_imagenet\.torch"):
        hvd.DistributedOptimizer(torch.optim.SGD([torch.zeros(1, requires_grad=True)]))


def saved(folder: str) -> None:
    import hvd_imagenet.keras as hvd

    model = cases.network(cases.problem()[2])
    optimizer = cases.optimizer("AdamW", learning_rate=0.0625, weight_decay=0.25)
    optimizer.exclude_from_weight_decay(var_list=[model.weights[0]])
    model.compile(hvd.DistributedOptimizer(optimizer), loss="mse")
    cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
    if hvd.rank() == 0:
        model.save(f"{folder}/model.keras")
    hvd.allreduce(0.0)
    loaded = hvd.load_model(f"{folder}/model.keras")
    assert [loaded.optimizer._use_weight_decay(each) for each in loaded.weights] == [False, True, True, True]
    results = [cases.fit(each, cases.own_rows, cases.BATCH // hvd.size()) for each in (loaded, model)]
    cases.compare("loaded", *results, tolerance=cases.tight())


def on_the_backend_torch(folder: str) -> None:
    import keras

    assert keras.backend.backend() == "torch"
    train("float64", ["SGD", "Nesterov", "Adam", "AdamW", "RMSprop"], tolerance=cases.tight())
    for case in (
        clipped, moving_average, accumulated, frozen_and_unused, several_fits, train_on_batch, planned_rates, options,
        bfloat16, values_and_mistakes,
    ):  # fmt: skip
        case()
    overflow_on_one_rank()
    check("fit on torch", distributed_and_trained())
    assert not any(name.split(".")[0] in ("tensorflow", "jax") for name in sys.modules)
    assert "horovod.tensorflow" not in sys.modules
    saved(folder)  # Keras itself imports TensorFlow where it is installed, for its file functions


def distributed_and_trained() -> object:
    model = distributed()
    cases.fit(model, cases.own_rows, cases.BATCH // 2)
    return model


def test_everything_holds_on_the_backend_torch(tmp_path: Path) -> None:
    output = run_keras_ranks(2, on_the_backend_torch, tmp_path, KERAS_BACKEND="torch")
    assert output.count("jit_compile is turned off: torch.compile cannot compile Horovod's collectives") == 1
