"""Every way in which Keras comes to call apply: fit, train_on_batch, an own step, many steps at once, uneven ones."""

from typing import Any

import keras_cases as cases
import numpy as np
from keras_cases import reference, sgd
from keras_ranks import run_keras_ranks

OPTIONS = {"learning_rate": 0.125, "momentum": 0.875}


def distributed(**options: Any) -> Any:
    import hvd_imagenet.keras as hvd

    model = cases.network(cases.problem()[2])
    model.compile(hvd.DistributedOptimizer(cases.optimizer("SGD", **OPTIONS)), loss="mse", **options)
    return model


def check(name: str, model: Any) -> None:
    result = cases.weights_of(model)
    cases.same_on_all_ranks(name, result)
    cases.compare(name, result, reference(sgd(0.125, 0.875)), cases.tight())


def several_fits() -> None:
    inputs, targets, _ = cases.problem()
    model = distributed()
    for rows in (slice(0, 2 * cases.BATCH), slice(2 * cases.BATCH, None)):
        share = cases.own_rows(inputs[rows]), cases.own_rows(targets[rows])
        model.fit(*share, batch_size=len(share[0]) * cases.BATCH // len(inputs[rows]), shuffle=False, verbose=0)
    check("several fits", model)


def train_on_batch() -> None:
    inputs, targets, _ = cases.problem()
    model = distributed()
    for batch in range(cases.STEPS):
        rows = slice(batch * cases.BATCH, (batch + 1) * cases.BATCH)
        model.train_on_batch(cases.own_rows(inputs[rows]), cases.own_rows(targets[rows]))
    check("train_on_batch", model)


def own_train_step() -> None:
    """The two forms in which such steps are written."""
    import keras
    import tensorflow as tf

    import hvd_imagenet.keras as hvd

    class WithStep(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    inside = cases.network(cases.problem()[2])
    model = WithStep(inside.inputs, inside.outputs)
    model.compile(hvd.DistributedOptimizer(cases.optimizer("SGD", **OPTIONS)))
    cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
    check("own train_step", model)

    loop = cases.network(cases.problem()[2])
    optimizer = hvd.DistributedOptimizer(cases.optimizer("SGD", **OPTIONS))

    @tf.function
    def step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((loop(x, training=True) - y) ** 2)
        variables = loop.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    inputs, targets, _ = cases.problem()
    for batch in range(cases.STEPS):
        rows = slice(batch * cases.BATCH, (batch + 1) * cases.BATCH)
        step(cases.own_rows(inputs[rows]), cases.own_rows(targets[rows]))
    check("own loop", loop)


def steps_per_execution() -> None:
    import hvd_imagenet.keras as hvd

    for number in (2, cases.STEPS):
        model = distributed(steps_per_execution=number)
        cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
        check(f"steps_per_execution={number}", model)


def uneven_last_batch() -> None:
    """Rank 0 has 6 and 6 rows, rank 1 has 6 and 5: it alone traces its step anew."""
    import hvd_imagenet.keras as hvd

    inputs, targets, weights = cases.problem()
    mine = slice(0, 12) if hvd.rank() == 0 else slice(12, 23)
    model = distributed()
    model.fit(inputs[mine], targets[mine], batch_size=6, epochs=2, shuffle=False, verbose=0)
    result = cases.weights_of(model)
    cases.same_on_all_ranks("uneven", result)
    states: list[dict[str, Any]] = [{} for _ in weights]
    for batches in [(slice(0, 6), slice(12, 18)), (slice(6, 12), slice(18, 23))] * 2:
        of_ranks = [cases.gradient(weights, inputs[rows], targets[rows]) for rows in batches]
        means = [np.mean(pair, axis=0) for pair in zip(*of_ranks, strict=True)]
        weights = [sgd(0.125, 0.875)(*each, 1) for each in zip(weights, means, states, strict=True)]
    cases.compare("uneven", result, weights, cases.tight())


def planned_rates() -> None:
    """η of each step and the momentum correction, in a step that is compiled once and holds several."""
    import math

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.core.momentum import State, correct_momentum, paper_step
    from hvd_imagenet.keras.hook import hook_of

    inputs, targets, start = cases.problem()
    rates = [0.125, 0.25, math.nan, 0.0625, 0.5]
    for options in ({"steps_per_execution": cases.STEPS}, {"run_eagerly": True}):
        model = distributed(**options)
        hook_of(model.optimizer).plan_learning_rates(rates)
        cases.fit(model, cases.own_rows, cases.BATCH // hvd.size())
        states, old = [State(w, np.zeros_like(w)) for w in start], 0.125
        for step, rate in enumerate(rates):
            rows = slice(step * cases.BATCH, (step + 1) * cases.BATCH)
            gradients = cases.gradient([state.weights for state in states], inputs[rows], targets[rows])
            new = old if math.isnan(rate) else rate
            states = [
                paper_step(State(state.weights, correct_momentum(state.momentum, new, old)), g, new, 0.875)
                for state, g in zip(states, gradients, strict=True)
            ]
            old = new
        result = cases.weights_of(model)
        cases.same_on_all_ranks("plan", result)
        cases.compare(f"plan {options}", result, [state.weights for state in states], cases.tight())
        assert float(model.optimizer.learning_rate) == 0.5


def every_loop() -> None:
    import keras

    keras.config.set_floatx("float64")
    for case in (
        several_fits, train_on_batch, own_train_step, steps_per_execution, uneven_last_batch, planned_rates,
    ):  # fmt: skip
        case()


def test_every_loop_trains_as_one_process_does() -> None:
    run_keras_ranks(2, every_loop)
