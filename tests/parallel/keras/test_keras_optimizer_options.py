"""The options of DistributedOptimizer, and the collectives that are really run."""

import functools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import keras_cases as cases
import numpy as np
from keras_cases import Arrays, reference, sgd
from keras_ranks import run_keras_ranks

RATE = 0.25


def trained(label: str, /, compiling: "dict[str, Any] | None" = None, **distribution: Any) -> Any:
    import hvd_imagenet.keras as hvd

    model = cases.network(cases.problem()[2])
    model.compile(
        hvd.DistributedOptimizer(cases.optimizer("SGD", learning_rate=RATE), **distribution),
        loss="mse",
        **(compiling or {}),
    )
    result = cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
    cases.same_on_all_ranks(label, result)
    return model


def of_ranks(batch: int, weights: Arrays, size: int) -> "list[Arrays]":
    """The gradients of one batch, a rank at a time."""
    inputs, targets, _ = cases.problem()
    share = cases.BATCH // size
    starts = [batch * cases.BATCH + rank * share for rank in range(size)]
    return [cases.gradient(weights, inputs[s : s + share], targets[s : s + share]) for s in starts]


def adasum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Maleki et al. 2020, equation 4; of one variable's gradients on two ranks."""
    dot = np.sum(a * b)
    return (1 - dot / (2 * np.sum(a * a))) * a + (1 - dot / (2 * np.sum(b * b))) * b


def operations() -> None:
    import keras

    import hvd_imagenet.keras as hvd

    keras.config.set_floatx("float64")
    mean = reference(sgd(RATE))
    double = reference(sgd(RATE), clip=lambda gradients: [2 * g for g in gradients])
    groups = [[0, 3], [2]]
    for name, distribution, expected, tolerance in [
        ("fp16", {"compression": hvd.Compression.fp16}, mean, 3e-3),
        ("predivide", {"gradient_predivide_factor": 4.0}, mean, cases.tight()),
        ("Sum", {"op": hvd.Sum}, double, cases.tight()),
        ("two groups", {"groups": 2}, mean, cases.tight()),
        ("num_groups", {"num_groups": 3}, mean, cases.tight()),
        ("named", {"name": "my optimizer's"}, mean, cases.tight()),
    ]:
        cases.compare(name, cases.weights_of(trained(name, **distribution)), expected, tolerance)
    exact = cases.weights_of(trained("exact"))
    coarse = cases.weights_of(trained("fp16", compression=hvd.Compression.fp16))
    assert not np.allclose(exact[0], coarse[0], rtol=1e-6), "fp16 changed nothing"

    model = cases.network(cases.problem()[2])
    lists = [[model.weights[index] for index in group] for group in groups]
    model.compile(hvd.DistributedOptimizer(cases.optimizer("SGD", learning_rate=RATE), groups=lists), loss="mse")
    cases.compare("lists", cases.fit(model, cases.own_rows, cases.BATCH // hvd.size()), mean, cases.tight())

    weights = cases.problem()[2]
    for batch in range(cases.STEPS):
        weights = [w - RATE * adasum(*pair) for w, *pair in zip(weights, *of_ranks(batch, weights, 2), strict=True)]
    cases.compare("Adasum", cases.weights_of(trained("Adasum", op=hvd.Adasum)), weights, cases.tight())
    adasum_of_rows()


def adasum_of_rows() -> None:
    """Equal gradients of an Embedding: Adasum is their mean, and their rows one after the other are the sum."""
    import keras
    import tensorflow as tf

    import hvd_imagenet.keras as hvd

    rows = keras.Variable(np.zeros((4, 1)))
    slices = tf.IndexedSlices(tf.ones((1, 1), tf.float64), tf.constant([1]), tf.constant([4, 1]))
    optimizer = hvd.DistributedOptimizer(keras.optimizers.SGD(1.0), op=hvd.Adasum)
    optimizer.apply([slices], iter([rows]))  # and, as Keras takes it, an iterator
    assert rows.numpy().ravel().tolist() == [0.0, -1.0, 0.0, 0.0]


def local_variables() -> None:
    """The last bias stays each rank's own; its gradient is divided by the size unless that is turned off."""
    import hvd_imagenet.keras as hvd

    for scale in (True, False):
        optimizer = hvd.DistributedOptimizer(cases.optimizer("SGD", learning_rate=RATE), scale_local_gradients=scale)
        model = cases.network(cases.problem()[2])
        optimizer.register_local_var(model.weights[3])
        model.compile(optimizer, loss="mse")
        result = cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
        weights = [cases.problem()[2] for _ in range(2)]
        for batch in range(cases.STEPS):
            gradients = [of_ranks(batch, weights[rank], 2)[rank] for rank in range(2)]
            shared = [np.mean(pair, axis=0) for pair in zip(*gradients, strict=True)]
            for rank in range(2):
                own = gradients[rank][3] / (2 if scale else 1)
                weights[rank] = [w - RATE * g for w, g in zip(weights[rank], [*shared[:3], own], strict=True)]
        cases.compare(f"local variables, scaled: {scale}", result, weights[hvd.rank()], cases.tight())


def mixed_dtypes() -> None:
    """bfloat16 weights beside float32 ones: no collective takes both, and Horovod takes no bfloat16 at all."""
    import keras

    import hvd_imagenet.keras as hvd

    def build() -> Any:
        keras.utils.set_random_seed(2)
        layers = [keras.layers.Dense(4, dtype="bfloat16"), keras.layers.Dense(3, dtype="float32")]
        return keras.Sequential([keras.Input((cases.INPUTS,)), *layers])

    alone, model = build(), build()
    alone.compile(cases.optimizer("SGD", learning_rate=RATE), loss="mse")
    model.compile(hvd.DistributedOptimizer(cases.optimizer("SGD", learning_rate=RATE)), loss="mse")
    expected = cases.fit(alone, lambda rows: rows, cases.BATCH)
    result = cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
    assert {str(value.dtype) for value in result} == {"bfloat16", "float32"}
    as_float = [[value.astype(np.float32) for value in side] for side in (result, expected)]
    cases.same_on_all_ranks("mixed dtypes", as_float[0])
    cases.compare("mixed dtypes", *as_float, tolerance=0.05)


def events_of(folder: str, name: str, train: Any) -> "Counter[str]":
    """How often each tensor was reduced, by Horovod's timeline; on rank 0."""
    import hvd_imagenet.keras as hvd

    path = Path(folder) / f"{name}.json"
    if hvd.rank() == 0:
        hvd.start_timeline(str(path))  # returns when the file is open
    hvd.allreduce(0.0)
    train()
    hvd.allreduce(0.0)
    if hvd.rank() == 0:
        hvd.stop_timeline()  # returns when all events are in the file
    hvd.allreduce(0.0)
    if hvd.rank() != 0:
        return Counter()
    text = path.read_text().strip().removeprefix("[").removesuffix("]").strip().rstrip(",")
    events = json.loads(f"[{text}]")
    tensor_of = {each["pid"]: each["args"]["name"] for each in events if "name" in each.get("args", {})}
    began = [
        tensor_of[each["pid"]] for each in events if each.get("name") == "NEGOTIATE_ALLREDUCE" and each["ph"] == "B"
    ]
    return Counter(tensor for tensor in began if "of" in tensor or tensor.startswith("counted"))


def collectives_run(folder: str) -> None:
    """One grouped reduction an update, of all gradients together; also where passes are accumulated."""
    import hvd_imagenet.keras as hvd

    for name, options, compiling, updates in [
        ("counted_every_batch", {}, {}, 5),
        ("counted_accumulated", {"backward_passes_per_step": 2}, {}, 2),
        ("counted_many_at_once", {"backward_passes_per_step": 2}, {"steps_per_execution": 5}, 2),
        ("counted_eagerly", {"backward_passes_per_step": 2}, {"run_eagerly": True}, 2),
    ]:
        train = functools.partial(trained, name, compiling=compiling, name=name, **options)
        counts = events_of(folder, name, train)
        if hvd.rank() == 0:
            assert len(counts) == 4, counts
            assert set(counts.values()) == {updates}, counts
            assert all(tensor.endswith("of4") for tensor in counts), counts


def operations_in_graph() -> None:
    """The compiled step holds one grouped collective for four gradients; groups=4 holds four."""
    import tensorflow as tf

    import hvd_imagenet.keras as hvd

    for groups, number in ((None, 1), (2, 2), (4, 4)):
        model = cases.network(cases.problem()[2])
        model.compile(hvd.DistributedOptimizer(cases.optimizer("SGD", learning_rate=RATE), groups=groups), loss="mse")
        inputs, targets, _ = cases.problem()

        @tf.function
        def step(x: Any, y: Any, model: Any = model) -> Any:
            return model.train_step((x, y))

        graph = step.get_concrete_function(tf.constant(inputs), tf.constant(targets)).graph
        kinds = [operation.type for operation in graph.get_operations() if operation.type.startswith("Horovod")]
        assert kinds == ["HorovodGroupedAllreduce"] * number, kinds


def no_xla() -> None:
    """Turned off with one line, however many models ask for it."""
    for _ in range(2):
        model = trained("jit_compile", compiling={"jit_compile": True})
        assert model.jit_compile is False
    with_optimizers_of_its_own()


def with_optimizers_of_its_own() -> None:
    """A GAN's are not model.optimizer, which has no hook."""
    import keras
    import tensorflow as tf

    import hvd_imagenet.keras as hvd

    class OwnStep(keras.Sequential):
        def train_step(self, data: Any) -> dict[str, Any]:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(data[0], training=True) - data[1]) ** 2)
            own.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return {"loss": loss}

    model = OwnStep(cases.network(cases.problem()[2]).layers)
    model.compile(jit_compile=True)
    own = hvd.DistributedOptimizer(cases.optimizer("SGD", learning_rate=RATE))
    result = cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
    assert model.jit_compile is False
    cases.compare("optimizers of its own", result, reference(sgd(RATE)), cases.tight())


def every_option(folder: str) -> None:
    operations()
    local_variables()
    mixed_dtypes()
    collectives_run(folder)
    operations_in_graph()
    no_xla()


def test_every_option_does_what_it_says(tmp_path: Path) -> None:
    output = run_keras_ranks(2, every_option, tmp_path, HOROVOD_TIMELINE="DYNAMIC")
    assert output.count("jit_compile is turned off") == 1
    assert "hvd_imagenet: jit_compile is turned off: XLA cannot compile Horovod's collectives\n" in output


def one_process_needs_no_collective(folder: str) -> None:
    import hvd_imagenet.keras as hvd

    counts = events_of(folder, "alone", lambda: trained("alone", name="counted", backward_passes_per_step=2))
    assert not counts, counts
    double = reference(sgd(RATE), clip=lambda gradients: [2 * g for g in gradients], updates=[[0, 1], [2, 3]])
    result = cases.weights_of(trained("alone", backward_passes_per_step=2))
    cases.compare("alone", result, double, 1e-5)
    assert hvd.size() == 1


def test_one_process_runs_no_collective_and_adds_passes_up_all_the_same(tmp_path: Path) -> None:
    run_keras_ranks(1, one_process_needs_no_collective, tmp_path, HOROVOD_TIMELINE="DYNAMIC")
