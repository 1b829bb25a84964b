"""Mistakes of the user: an error that says which and why, on all ranks where it is about all of them."""

import re
from collections.abc import Callable
from typing import Any

import keras_cases as cases
import numpy as np
import pytest
from keras_ranks import run_keras_ranks


def raises(kind: type[Exception], text: str) -> Any:
    return pytest.raises(kind, match=re.escape(text))


def optimizers_that_are_none() -> None:
    import keras

    import hvd_imagenet.keras as hvd

    # Of what is not loaded here: PyTorch and tf_keras.
    torch_sgd = type("SGD", (), {"__module__": "torch.optim.sgd"})()
    tf_keras_adam = type("Adam", (), {"__module__": "tf_keras.src.optimizers.adam", "apply_gradients": None})()
    of_version_1 = type("GradientDescentOptimizer", (), {"minimize": None})()
    for thing, message in [
        ("adam", "needs an optimizer of Keras 3, not the name 'adam': write keras.optimizers.get('adam')"),
        (keras.optimizers.SGD, "not a class: write keras.optimizers.SGD()"),
        (torch_sgd, "not torch.optim.sgd.SGD: for a loop in PyTorch use hvd_imagenet.torch"),
        (tf_keras_adam, "not tf_keras.src.optimizers.adam.Adam: write keras.optimizers.Adam()"),
        (of_version_1, "write keras.optimizers.SGD()"),
        (type("Lookahead", (), {"minimize": None})(), "Lookahead: write one of keras.optimizers"),
        (None, "not None of builtins.NoneType"),
    ]:
        with raises(TypeError, message):
            hvd.DistributedOptimizer(thing)


def twice() -> None:
    import keras

    import hvd_imagenet.keras as hvd

    once = hvd.DistributedOptimizer(keras.optimizers.SGD())
    message = "this SGD is distributed already: DistributedOptimizer must be called once"
    with raises(ValueError, message):
        hvd.DistributedOptimizer(once)
    with raises(ValueError, "this LossScaleOptimizer is distributed already"):
        hvd.DistributedOptimizer(keras.optimizers.LossScaleOptimizer(once))
    with raises(ValueError, message):
        hvd.DistributedOptimizer(once)


def options_out_of_range() -> None:
    import keras

    import hvd_imagenet.keras as hvd

    alone = hvd.add_process_set([0])
    cases_: list[tuple[dict[str, Any], str]] = [
        ({"op": 77}, "op must be hvd.Average, hvd.Sum or hvd.Adasum, not 77"),
        ({"gradient_predivide_factor": 2.0, "op": hvd.Sum}, "gradient_predivide_factor must be 1.0 unless op is"),
        ({"gradient_predivide_factor": 0.0}, "gradient_predivide_factor must be more than 0, not 0.0"),
        ({"groups": 0}, "groups must be a positive integer or a list of lists of variables, not 0"),
        ({"groups": [1, 2]}, "groups must be a positive integer or a list of lists of variables, not [1, 2]"),
        ({"backward_passes_per_step": 0}, "backward_passes_per_step must be a positive integer, not 0"),
    ]
    if hvd.rank() == 1:
        cases_.append(({"process_set": alone}, "does not include rank 1"))
    for options, message in cases_:
        with raises(ValueError, message):
            hvd.DistributedOptimizer(keras.optimizers.SGD(), **options)
    with raises(ValueError, "gradient_accumulation_steps=3: give one of the two"):
        hvd.DistributedOptimizer(keras.optimizers.SGD(gradient_accumulation_steps=3), backward_passes_per_step=2)
    built = keras.optimizers.SGD()
    built.build([keras.Variable([1.0])])
    with raises(ValueError, "has variables already and cannot begin to accumulate"):
        hvd.DistributedOptimizer(built, backward_passes_per_step=2)
    if hvd.rank() == 0:  # a process set of its own: nobody else is asked
        model = cases.network(cases.problem()[2])
        model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(), process_set=alone), loss="mse")
        cases.fit(model, lambda rows: rows, cases.BATCH)


def what_keras_3_cannot_take() -> None:
    import keras

    import hvd_imagenet.keras as hvd

    optimizer = hvd.DistributedOptimizer(keras.optimizers.SGD(0.5))
    with raises(AttributeError, "SGD has no attribute 'lr' in Keras 3: write optimizer.learning_rate"):
        _ = optimizer.lr
    with raises(AttributeError, "write optimizer.learning_rate = 0.25"):
        optimizer.lr = 0.25
    assert not hasattr(optimizer, "lr")
    others = keras.optimizers.Adam()
    others.lr = 3
    assert others.lr == 3
    for _ in range(2):
        model = cases.network(cases.problem()[2])
        model.compile(optimizer, loss="mse", experimental_run_tf_function=False)
    with raises(TypeError, "no_such_option"):
        model.compile(optimizer, no_such_option=1)
    with raises(ImportError, "no elastic training: resume from a checkpoint"):
        from hvd_imagenet.keras import elastic as _
    with raises(ImportError, "on rank 0 alone use keras.callbacks.ModelCheckpoint(path, save_best_only=True)"):
        _ = hvd.callbacks.BestModelCheckpoint
    with raises(AttributeError, "has no attribute 'no_such_name'"):
        _ = hvd.callbacks.no_such_name
    with raises(ValueError, "Adam(lr=0.5) is of older Keras: write Adam(learning_rate=0.5)"):
        keras.optimizers.Adam(lr=0.5)
    with raises(AttributeError, "has no attribute 'no_such_name'"):
        _ = hvd.no_such_name
    with raises(ValueError, "You must call `compile()` before"):
        cases.fit(cases.network(cases.problem()[2]), lambda rows: rows, cases.BATCH)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    from hvd_imagenet.keras.hook import hook_of

    with raises(ValueError, "which sets η itself; make the optimizer with a number"):
        hook_of(keras.optimizers.SGD(schedule)).plan_learning_rates([0.1])
    with raises(ValueError, "rates must hold one η or more"):
        hook_of(keras.optimizers.SGD(0.1)).plan_learning_rates([])


def with_hidden(units: int) -> Any:
    import keras

    return keras.Sequential([keras.Input((cases.INPUTS,)), keras.layers.Dense(units), keras.layers.Dense(3)])


def ranks_that_differ() -> None:
    """Every rank gets the error, and can go on to the next."""
    import keras
    import tensorflow as tf

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.errors import AgreedError

    rank = hvd.rank()

    def train(model: Any, kind: str = "SGD", run_eagerly: bool = False, **distribution: Any) -> None:
        optimizer = hvd.DistributedOptimizer(cases.optimizer(kind), **distribution)
        model.compile(optimizer, loss="mse", run_eagerly=run_eagerly)
        cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())

    def own_loop(gradients: Any) -> None:
        variables = [keras.Variable([1.0, 2.0], name="one"), keras.Variable([3.0], name="two")]
        hvd.DistributedOptimizer(keras.optimizers.SGD()).apply(gradients, variables)

    def half() -> Any:
        return tf.IndexedSlices(tf.ones(1), tf.constant([0]), tf.constant([2]))

    different: list[tuple[str, Callable[[], None]]] = [
        (
            r"rank 1 has .*dense.*kernel \[5, 7\] float32 with a dense gradient, where rank 0 has "
            r".*dense.*kernel \[5, 6\] float32 with a dense gradient; every rank must train the same model",
            lambda: train(with_hidden(6 + rank)),
        ),
        (r"rank 1 has .*kernel \[5, 7\]", lambda: train(with_hidden(6 + rank), run_eagerly=True)),
        (
            "the number of trainable variables on rank 1: 2, on rank 0: 4",
            lambda: train(with_hidden(6) if rank == 0 else keras.Sequential([keras.layers.Dense(3)])),
        ),
        ("the optimizer on rank 1: Adam, on rank 0: SGD", lambda: train(with_hidden(6), kind=["SGD", "Adam"][rank])),
        (
            r"the options of DistributedOptimizer on rank 1: .*groups=2.*, on rank 0: .*groups=None",
            lambda: train(with_hidden(6), groups=[None, 2][rank]),
        ),
        (
            r"rank 1 has two \[1\] float32 with no gradient, where rank 0 has two \[1\] float32 with a dense gradient",
            lambda: own_loop([tf.ones(2), tf.ones(1) if rank == 0 else None]),
        ),
        ("rank 1 has one .* with a sparse gradient", lambda: own_loop([[tf.ones(2), half()][rank], tf.ones(1)])),
        (
            r"broadcast: w is float64\[2\] on rank 1, and w is float64\[1\] on rank 0; every rank must build",
            lambda: hvd.broadcast_variables([keras.Variable(np.ones(1 + rank), name="w")], root_rank=0),
        ),
        (
            r"broadcast: rank 1 has 3 variables, rank 0 has 2: w \[1\] of rank 1 is missing on rank 0; every rank must",
            lambda: hvd.broadcast_variables(
                [keras.Variable(1.0, name=f"v_{rank}"), *[keras.Variable([1.0], name="w")] * rank, keras.Variable(2.0)],
                root_rank=0,
            ),
        ),
    ]
    for message, action in different:
        with pytest.raises(AgreedError, match=message):
            action()
    train(with_hidden(6))  # names that differ by a number alone are those of the same model
    if rank == 0:
        with_hidden(4)
    train(with_hidden(6))


def every_mistake() -> None:
    optimizers_that_are_none()
    twice()
    options_out_of_range()
    what_keras_3_cannot_take()
    ranks_that_differ()


def test_mistakes_are_told_on_every_rank() -> None:
    output = run_keras_ranks(2, every_mistake, HOROVOD_DYNAMIC_PROCESS_SETS="1")
    line = "hvd_imagenet: compile(experimental_run_tf_function=…) means nothing in Keras 3 and is ignored: leave it out"
    assert output.count(line) == 1


def train_different_models() -> None:
    import keras

    import hvd_imagenet.keras as hvd

    model = with_hidden(6 + hvd.rank())
    model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD()), loss="mse")
    cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())


def raise_on_one() -> None:
    import hvd_imagenet.keras as hvd

    if hvd.rank() == 1:
        raise RuntimeError("this rank alone")
    hvd.allreduce(1.0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (train_different_models, "exit code 2.*\nerror: rank 1 has .*kernel.* [5, 7].*, where rank 0 has"),
        (raise_on_one, "RuntimeError: this rank alone"),
    ],
)
def test_a_failure_ends_the_whole_job(function: Callable[[], None], message: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(message).replace(r"\.\*", ".*")) as caught:
        run_keras_ranks(2, function)
    assert "not done after" not in str(caught.value)
    if function is train_different_models:  # one line, from one rank
        assert "Traceback" not in str(caught.value).partition("exit code")[2]
        assert str(caught.value).count("error: rank 1 has") == 1
