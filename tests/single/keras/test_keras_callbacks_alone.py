"""The callbacks in one process, and what they refuse."""

import keras
import numpy as np
import pytest

import hvd_imagenet.keras as hvd
from hvd_imagenet.keras.callbacks import (
    BroadcastGlobalVariablesCallback,
    BroadcastVariables,
    MetricAverage,
    MetricAverageCallback,
)


@pytest.mark.parametrize("root_rank", [-1, 1.0, True, None])
def test_root_rank(root_rank):
    with pytest.raises(ValueError, match=f"^root_rank must be an integer of 0 or more, not {root_rank!r}$"):
        BroadcastVariables(root_rank)


@pytest.mark.parametrize("local_variables", ["kernel", [keras.Variable(1.0), 3], 3])
def test_local_variables(local_variables):
    with pytest.raises(ValueError, match=r"^local_variables must be variables, not "):
        BroadcastVariables(0, local_variables)


def test_one_process_is_left_as_it_is():
    """Also a model that the shapes of the data do not suffice to build."""
    hvd.init()

    class NeedsValues(keras.Model):
        def build(self, shape):
            assert shape[0] is not None
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, inputs):
            return inputs * self.scale

    def fit(*callbacks):
        model = NeedsValues()
        model.compile("sgd", "mse", run_eagerly=True, metrics=["mae"])
        data = np.array([[1.0], [2.0], [4.0]])
        return model.fit(data, data + 1, batch_size=2, shuffle=False, verbose=0, callbacks=callbacks).history

    plain = fit()
    assert fit(BroadcastVariables(), MetricAverage()) == plain
    assert fit(BroadcastGlobalVariablesCallback(0), MetricAverageCallback()) == plain


def test_a_root_rank_beyond_the_job():
    hvd.init()
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"^root_rank must be below the number of ranks, but 1 is not below 1$"):
        model.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0, callbacks=[BroadcastVariables(1)])
