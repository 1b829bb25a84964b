"""Momentum SGD in PyTorch's form, with weight decay as an L2 gradient, and LARS, which scales that by a trust ratio."""

from typing import Any

import keras
from keras import ops

from hvd_imagenet.core.lars import TRUST_COEFFICIENT, is_scaled
from hvd_imagenet.keras.layers import batch_normalisations
from hvd_imagenet.recipes import Recipe

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="hvd_imagenet")
class SGD(keras.optimizers.Optimizer):
    """u ← m·u + g + λw;  w ← w − η·u (equation 10), or w ← w − η·(m·u + g + λw) with Nesterov.

    η stands outside the history, so that nothing need be corrected when it changes (section 3, remark 2), unlike in
    keras.optimizers.SGD. λw joins the gradient after reduction and clipping and passes through momentum (remark 1);
    `weight_decay` of Keras' optimizers does not, it shrinks the weights apart from the gradient.

    Args:
        learning_rate: η, or one of Keras' schedules.
        momentum: m, in [0, 1).
        nesterov: look ahead.
        l2_weight_decay: λ, for every variable that exclude_from_weight_decay does not name; see exclude_batch_norm.
        **options: of keras.optimizers.Optimizer, without weight_decay.

    Raises:
        ValueError: a number is out of range, or weight_decay is given.

    Example:
        >>> weight = keras.Variable([1.0])
        >>> optimizer = SGD(0.5, momentum=0.5, l2_weight_decay=1.0)
        >>> for _ in range(2):
        ...     optimizer.apply([keras.ops.ones(1)], [weight])
        >>> weight.numpy().tolist(), optimizer.buffers[0].numpy().tolist()
        ([-1.0], [2.0])
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        l2_weight_decay: float = 0.0,
        **options: Any,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), not {momentum}")
        if nesterov and momentum == 0:
            raise ValueError("nesterov must be False without momentum")
        if not l2_weight_decay >= 0:
            raise ValueError(f"l2_weight_decay must be 0 or more, not {l2_weight_decay}")
        if options.get("weight_decay") is not None:
            raise ValueError(f"weight_decay must be None, not {options['weight_decay']}: here λ is l2_weight_decay")
        super().__init__(learning_rate=learning_rate, **options)
        self.momentum = float(momentum)
        self.nesterov = nesterov
        self.l2_weight_decay = float(l2_weight_decay)

    def build(self, variables: list[keras.Variable]) -> None:
        """Makes the buffers u, zero; `momentums`, as others call it, is what a change of η would scale."""
        if self.built:
            return
        super().build(variables)
        self.buffers = self.add_optimizer_variables(variables, "buffer") if self.momentum else []

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Steps one variable by its reduced and clipped gradient."""
        dtype = variable.dtype
        if keras.backend.backend() == "tensorflow":
            gradient = tf.convert_to_tensor(gradient)  # an Embedding's is sparse
        gradient, learning_rate = ops.cast(gradient, dtype), ops.cast(learning_rate, dtype)
        gradient = self.with_weight_decay(gradient, variable)
        if not self.momentum:
            self.assign_sub(variable, learning_rate * gradient)
            return
        buffer = self.buffers[self._get_variable_index(variable)]
        if keras.backend.backend() == "tensorflow":
            # The same formula in one kernel: ResNet-50's variables in three quarters of the time.
            target = variable.value if isinstance(variable, keras.Variable) else variable
            tf.raw_ops.ResourceApplyMomentum(
                var=target.handle, accum=buffer.value.handle, lr=learning_rate, grad=gradient, momentum=self.momentum,
                use_nesterov=self.nesterov,
            )  # fmt: skip
            return
        buffer.assign(self.momentum * buffer + gradient)
        step = self.momentum * buffer + gradient if self.nesterov else buffer
        self.assign_sub(variable, learning_rate * step)

    def with_weight_decay(self, gradient: Any, variable: Any) -> Any:
        """What momentum takes in: g + λw."""
        decay = self._weight_decay_of(variable)
        return gradient + decay * variable if decay else gradient

    def _weight_decay_of(self, variable: Any) -> float:
        return self.l2_weight_decay if self.l2_weight_decay and self._use_weight_decay(variable) else 0.0

    def get_config(self) -> dict[str, Any]:
        """Keras' options and this class's."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "l2_weight_decay": self.l2_weight_decay,
        }


@keras.saving.register_keras_serializable(package="hvd_imagenet")
class LARS(SGD):
    """SGD in which every weight tensor's gradient is scaled by its trust ratio: see hvd_imagenet.core.lars.

    u ← m·u + ratio·(g + λw);  w ← w − η·u, or with Nesterov as SGD has it. Variables of one dimension (biases, the γ
    and β of normalisations) have a ratio of 1.

    Args:
        learning_rate: η, or one of Keras' schedules.
        trust_coefficient: c.
        **options: of SGD.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> weight = keras.Variable([[0.0, 2.0]])
        >>> optimizer = LARS(1.0, l2_weight_decay=0.5, trust_coefficient=0.75)
        >>> optimizer.apply([keras.ops.convert_to_tensor([[3.0, 4.0]])], [weight])
        >>> weight.numpy().tolist()
        [[-0.75, 0.75]]
    """

    def __init__(self, learning_rate: Any = 0.01, trust_coefficient: float = TRUST_COEFFICIENT, **options: Any) -> None:
        if not trust_coefficient > 0:
            raise ValueError(f"trust_coefficient must be above 0, not {trust_coefficient}")
        super().__init__(learning_rate, **options)
        self.trust_coefficient = float(trust_coefficient)

    def with_weight_decay(self, gradient: Any, variable: Any) -> Any:
        """What momentum takes in: ratio·(g + λw)."""
        decayed = super().with_weight_decay(gradient, variable)
        if not is_scaled(tuple(variable.shape)):
            return decayed
        norm = _norm(variable)
        denominator = _norm(gradient) + self._weight_decay_of(variable) * norm
        usual = ops.logical_and(norm > 0, denominator > 0)
        ratio = self.trust_coefficient * norm / ops.where(usual, denominator, ops.ones_like(denominator))
        return ops.where(usual, ratio, ops.ones_like(ratio)) * decayed

    def get_config(self) -> dict[str, Any]:
        """SGD's options and the trust coefficient."""
        return {**super().get_config(), "trust_coefficient": self.trust_coefficient}


def _norm(values: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(values)))


def optimizer_of(recipe: Recipe, model: keras.Layer) -> SGD:
    """The optimizer of a recipe, with the first learning rate.

    Args:
        recipe: opt and all that it says of it.
        model: built; batch normalisation's γ and β are kept from weight decay, unless the recipe wants it there.

    Returns:
        SGD or LARS.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> type(optimizer_of(Recipe(opt="lars"), model)).__name__
        'LARS'
    """
    options = {
        "momentum": recipe.momentum, "nesterov": recipe.nesterov, "l2_weight_decay": recipe.weight_decay,
        "global_clipnorm": recipe.clip_grad,
    }  # fmt: skip
    if recipe.opt == "lars":
        optimizer: SGD = LARS(recipe.reference_lr, trust_coefficient=recipe.trust_coefficient, **options)
    else:
        optimizer = SGD(recipe.reference_lr, **options)
    if not recipe.decay_batch_norm:
        exclude_batch_norm(optimizer, model)
    return optimizer


def innermost(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer that makes the step, from within a LossScaleOptimizer.

    Args:
        optimizer: any.

    Returns:
        The optimizer itself if there is none in it.

    Example:
        >>> type(innermost(keras.optimizers.LossScaleOptimizer(SGD(0.1)))).__name__
        'SGD'
    """
    while isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer


def exclude_batch_norm(optimizer: keras.optimizers.Optimizer, model: keras.Layer) -> None:
    """Keeps weight decay off γ and β of every batch normalisation (section 5.1), found by layer type.

    It takes the place of what exclude_from_weight_decay was told before. A saved optimizer forgets it.

    Args:
        optimizer: any of Keras', not yet used.
        model: built.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
        >>> optimizer = SGD(0.1, l2_weight_decay=1e-4)
        >>> exclude_batch_norm(optimizer, model)
        >>> [optimizer._use_weight_decay(weight) for weight in model.trainable_weights]
        [True, True, False, False]
    """
    parameters = [weight for layer in batch_normalisations(model) for weight in (layer.gamma, layer.beta)]
    innermost(optimizer).exclude_from_weight_decay(var_list=[weight for weight in parameters if weight is not None])
