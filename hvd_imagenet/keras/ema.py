"""The running average of a Keras model's weights and batch normalisation averages."""

import keras
import numpy as np

from hvd_imagenet.keras.layers import running_averages
from hvd_imagenet.keras.variables import model_variables


class ModelEma:
    """a ← d·a + (1 − d)·w after every iteration, over weights and batch normalisation averages.

    Args:
        model: whose weights to average; the average starts as a copy of them.
        decay: d.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="fc")])
        >>> model.set_weights([np.array([[1.0]])])
        >>> ema = ModelEma(model, decay=0.75)
        >>> model.set_weights([np.array([[5.0]])])
        >>> ema.update()
        >>> ema.variables["fc.weight"].numpy().item()
        2.0
    """

    def __init__(self, model: keras.Model, decay: float) -> None:
        self._decay = decay
        self._source = model_variables(model)
        self._average_names = frozenset(running_averages(model))
        self.variables = {
            name: keras.Variable(each.numpy(), dtype=each.dtype, trainable=False, name="average")
            for name, each in self._source.items()
        }

    @property
    def averages(self) -> dict[str, keras.Variable]:
        """The part that differs between processes until it is averaged over them."""
        return {name: each for name, each in self.variables.items() if name in self._average_names}

    def update(self) -> None:
        """Takes one step; call it after every iteration, inside a tf.function or not."""
        for name, average in self.variables.items():
            average.assign_add((1.0 - self._decay) * (self._source[name] - average))

    def swap(self) -> None:
        """Exchanges the average and the model's own weights; call it again to undo it."""
        for name, source in self._source.items():
            # A copy on the host: a variable's value in a backend may be a view of it.
            own = np.array(source.numpy())
            source.assign(self.variables[name])
            self.variables[name].assign(own)
