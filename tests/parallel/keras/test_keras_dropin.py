"""`import hvd_imagenet.keras as hvd` where a script had `import horovod.tensorflow.keras as hvd`."""

import inspect
import sys
from typing import Any

import keras_cases as cases
import numpy as np
import pytest
from keras_ranks import run_keras_ranks
from ranks import program, run

# Modules that upstream's namespace happens to show.
IMPORTED = {"K", "inspect", "is_version_greater_equal_than", "keras", "tf", "version", "warnings"}
OTHERWISE = {"elastic"}  # an error that says what to use


def names_and_signatures() -> None:
    import horovod.keras as of_keras
    import horovod.tensorflow.keras as of_tensorflow

    import hvd_imagenet.keras as hvd

    for upstream in (of_tensorflow, of_keras):
        names = {name for name in dir(upstream) if not name.startswith("_")} - IMPORTED - OTHERWISE
        assert len(names) > 30
        for name in names:
            ours, theirs = getattr(hvd, name), getattr(upstream, name)
            assert name in dir(hvd), name
            if not inspect.isfunction(theirs) or name == "init":
                continue
            of_theirs = inspect.signature(theirs).parameters
            if name == "PartialDistributedOptimizer":
                continue
            of_ours = inspect.signature(ours).parameters
            if upstream is of_tensorflow:
                assert list(of_ours) == list(of_theirs), name
                defaults = [(of_ours[each].default, of_theirs[each].default) for each in of_theirs]
                assert all(one is other or one == other for one, other in defaults), (name, defaults)
            else:
                assert set(of_theirs) <= set(of_ours), name


def values() -> None:
    import keras
    import tensorflow as tf

    import hvd_imagenet.keras as hvd

    rank = hvd.rank()
    assert (hvd.size(), hvd.local_size(), hvd.cross_size(), hvd.is_initialized()) == (2, 2, 1, True)
    assert float(hvd.allreduce(float(rank))) == 0.5
    assert int(hvd.allreduce(3 + rank)) == 3  # of integers
    assert float(hvd.allreduce(float(rank), average=False)) == 1.0
    assert float(hvd.allreduce(rank + 1.0, op=hvd.Sum, prescale_factor=2.0, postscale_factor=0.5)) == 3.0
    assert hvd.allreduce(tf.constant([1, 2]), op=hvd.Sum).numpy().tolist() == [2, 4]
    assert abs(float(hvd.allreduce(1.0 / 3, compression=hvd.Compression.fp16)) - 1.0 / 3) > 1e-6
    assert hvd.allgather(np.full(rank + 1, rank), name="gathered").numpy().tolist() == [0, 1, 1]
    assert hvd.broadcast(keras.Variable([rank + 3.0]), root_rank=1).numpy().tolist() == [4.0]
    assert hvd.reducescatter([float(rank), 2.0]).numpy().tolist() == [[0.5], [2.0]][rank]
    assert hvd.broadcast_object({"rank": rank}, root_rank=1) == {"rank": 1}
    assert hvd.allgather_object(rank) == [0, 1]
    variables = [
        keras.Variable([float(rank)]), keras.Variable(rank, dtype="int32"), tf.Variable(rank + 0.5),
        keras.Variable([rank, 1.0], dtype="bfloat16"), keras.Variable(rank == 1, dtype="bool"),
    ]  # fmt: skip
    hvd.broadcast_variables(variables, root_rank=1)
    assert [np.asarray(variable).astype(float).tolist() for variable in variables] == [[1.0], 1.0, 1.5, [1.0, 1.0], 1.0]
    hvd.broadcast_variables([], root_rank=0)


def communicator() -> None:
    from hvd_imagenet.keras.communication import HorovodCommunicator

    ours = HorovodCommunicator()
    assert ours.sum(np.array([[1.5, float(ours.rank)]])).tolist() == [[3.0, 1.0]]
    assert ours.sum(np.float64(2.0)).tolist() == 4.0
    assert ours.gather({"rank": ours.rank, "text": "x" * (ours.rank * 5000)}) == [
        {"rank": 0, "text": ""},
        {"rank": 1, "text": "x" * 5000},
    ]


def global_variables() -> None:
    """Weights and optimizer variables of what was compiled, not the seeds of dropout."""
    import keras

    import hvd_imagenet.keras as hvd

    keras.utils.set_random_seed(hvd.rank())
    layers = [keras.Input((cases.INPUTS,)), keras.layers.Dropout(0.5), keras.layers.Dense(cases.OUTPUTS)]
    model = keras.Sequential(layers)
    model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(0.1 * (1 + hvd.rank()), momentum=0.9)), loss="mse")
    model.optimizer.build(model.trainable_variables)
    weights = {id(each) for each in model.weights}
    seeds = [each for each in model.non_trainable_variables if id(each) not in weights]
    before = [each.numpy().tolist() for each in seeds]
    hvd.broadcast_global_variables(1)
    cases.same_on_all_ranks("global variables", cases.weights_of(model))
    assert abs(float(model.optimizer.learning_rate) - 0.2) < 1e-6
    assert [each.numpy().tolist() for each in seeds] == before
    assert seeds


def partly_distributed() -> None:
    import keras

    import hvd_imagenet.keras as hvd

    model = cases.network(cases.problem()[2])
    optimizer = hvd.PartialDistributedOptimizer(keras.optimizers.SGD(0.25), local_layers=model.layers[1])
    model.compile(optimizer, loss="mse")
    result = cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
    of_ranks = hvd.allgather_object([value.tobytes() for value in result])
    assert [one == other for one, other in zip(*of_ranks, strict=True)] == [True, True, False, False]
    with pytest.raises(ValueError, match="local_layers must be layers of Keras, not 3"):
        hvd.PartialDistributedOptimizer(keras.optimizers.SGD(), local_layers=[3])
    with pytest.raises(ValueError, match="has no weights yet; build the model first"):
        hvd.PartialDistributedOptimizer(keras.optimizers.SGD(), local_layers=[keras.layers.Dense(2)])


def the_whole_namespace() -> None:
    names_and_signatures()
    values()
    communicator()
    global_variables()
    partly_distributed()


def test_the_namespace_is_horovod_s() -> None:
    run_keras_ranks(2, the_whole_namespace)


SCRIPT = """
import tensorflow as tf
import hvd_imagenet.keras as hvd
hvd.init()
model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(1)])
model.compile(loss="mse", optimizer=hvd.DistributedOptimizer(tf.keras.optimizers.Adam(0.01 * hvd.size())),
              experimental_run_tf_function=False, jit_compile=True)
model.fit(tf.ones((8, 4)), tf.ones((8, 1)), batch_size=4, epochs=2, verbose=0,
          callbacks=[hvd.callbacks.BroadcastGlobalVariablesCallback(0), hvd.callbacks.MetricAverageCallback()])
if hvd.rank() == 0:
    print("trained")
"""


def test_a_script_with_the_one_line_changed() -> None:
    done = run(program("launch", "-np", "2", "--", sys.executable, "-c", SCRIPT), timeout_s=100)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        "hvd_imagenet: compile(experimental_run_tf_function=…) means nothing in Keras 3 and is ignored: leave it out",
        "hvd_imagenet: jit_compile is turned off: XLA cannot compile Horovod's collectives",
        "trained",
    ]


QUIET = """
import hvd_imagenet.keras as hvd
hvd.init()
import keras
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD()), loss="mse")
model.fit(keras.ops.ones((8, 4)), keras.ops.ones((8, 1)), verbose=0)
import sys
assert "hvd_imagenet.keras.callbacks" not in sys.modules
"""


def test_nothing_is_written_when_nothing_is_wrong() -> None:
    environment: dict[str, Any] = {"TF_CPP_MIN_LOG_LEVEL": "2"}
    done = run([sys.executable, "-c", QUIET], timeout_s=60, **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
