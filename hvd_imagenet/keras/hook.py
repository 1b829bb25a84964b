"""The hook around an optimizer's apply: gradients are reduced there, and η and the velocities are set there.

It lives on the instance, so that the optimizer keeps its class, its configuration and its variables, and a saved
model loads without this package.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from hvd_imagenet.keras.backend import check_backend, collectives
from hvd_imagenet.keras.learning_rates import LearningRatePlan
from hvd_imagenet.keras.reduction import Reduction

_ATTRIBUTE = "_hvd_imagenet_hook"


class Hook:
    """What one optimizer does beside its own work in every call of apply.

    Args:
        optimizer: of Keras; the outermost one, where a LossScaleOptimizer wraps another.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.optimizer_with_rate: Any = innermost(optimizer)
        """The innermost optimizer."""
        self.reduction: Reduction | None = None
        self.guard: Callable[[list[Any], Callable[[], Any]], Any] | None = None
        """Is given the reduced gradients and the update, and makes it or not; it does nothing for an optimizer with
        gradient_accumulation_steps, which reduces later."""
        self._plan: LearningRatePlan | None = None
        self._variables: list[Any] = []
        self._applying = False
        self._install()

    @property
    def has_plan(self) -> bool:
        """Whether plan_learning_rates has been called: a step that was traced before knows nothing of it."""
        return self._plan is not None

    def plan_learning_rates(self, rates: Sequence[float], correct_momentum: bool = True) -> None:
        """Sets η of the coming calls of apply; it also holds within a compiled step.

        Where η changes, every velocity of keras.optimizers.SGD is scaled by η_new/η_old before the step (section 3,
        remark 2); after η = 0 nothing is left to scale. RMSprop(momentum=…) and Adam have variables of other
        meanings, which are left alone.

        Args:
            rates: η of each coming call, NaN to leave it as it is; as many as the model's steps_per_execution.
            correct_momentum: False for η alone.

        Raises:
            ValueError: no rates, or the optimizer's learning rate is a schedule.

        Example:
            >>> optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
            >>> hook_of(optimizer).plan_learning_rates([0.2])
            >>> weight = keras.Variable([1.0])
            >>> optimizer.apply([keras.ops.ones(1)], [weight])
            >>> round(float(optimizer.learning_rate), 6)
            0.2
        """
        if self._plan is None or not self._plan.fits(len(rates)):
            self._plan = LearningRatePlan(self.optimizer_with_rate, len(rates))
        self._plan.set(rates, correct_momentum)

    def _install(self) -> None:
        """Puts the hook in the place of methods of the instances, where no framework tracks it."""
        outer, inner = self.optimizer, self.optimizer_with_rate
        for optimizer in {id(outer): outer, id(inner): inner}.values():
            object.__setattr__(optimizer, _ATTRIBUTE, self)
            _replace(optimizer, "apply", functools.partial(self._apply, optimizer))
        if inner.gradient_accumulation_steps:
            _replace(inner, "_backend_apply_gradients", self._note_variables)
            _replace(inner, "_clip_gradients", self._reduce_accumulated)
            if outer is not inner:
                _replace(outer, "check_finite", self._finite_everywhere)

    def uninstall(self) -> None:
        """Gives the optimizer its own methods back."""
        for optimizer in (self.optimizer, self.optimizer_with_rate):
            for name in (_ATTRIBUTE, "apply", "_backend_apply_gradients", "_clip_gradients", "check_finite"):
                vars(optimizer).pop(name, None)

    def move_to(self, optimizer: Any) -> None:
        """Moves the hook outwards, to a LossScaleOptimizer that has been put around the optimizer.

        Args:
            optimizer: it then skips a step on all processes or on none, by the reduced gradients.
        """
        self.uninstall()
        self.optimizer = optimizer
        self._install()

    def _apply(self, optimizer: Any, original: Callable[..., Any], grads: Any, trainable_variables: Any = None) -> Any:
        gradients = list(grads)
        if self._applying or not gradients:  # a LossScaleOptimizer's call of the one within it
            return original(gradients, trainable_variables)
        check_backend()
        variables = _build(optimizer, trainable_variables)
        trainable_variables = None if trainable_variables is None else variables  # it may have been an iterator
        if self._plan is not None:
            self._plan.advance()
        if self.reduction is not None:
            self.reduction.agree(optimizer, gradients, variables)
            if not self.optimizer_with_rate.gradient_accumulation_steps:
                gradients = self.reduction(gradients, variables)
        self._applying = True
        try:
            if self.guard is None or self.optimizer_with_rate.gradient_accumulation_steps:
                return original(gradients, trainable_variables)
            return self.guard(gradients, lambda: original(gradients, trainable_variables))
        finally:
            self._applying = False

    def _note_variables(self, original: Callable[..., Any], grads: Any, trainable_variables: Any) -> Any:
        self._variables = list(trainable_variables)
        return original(grads, trainable_variables)

    def _reduce_accumulated(self, original: Callable[..., Any], grads: Any) -> Any:
        """Keras calls this once an update, with the mean over the accumulated passes."""
        return original(grads if self.reduction is None else self.reduction(list(grads), self._variables))

    def _finite_everywhere(self, original: Callable[..., Any], grads: Any) -> Any:
        finite = original(grads)
        return finite if self.reduction is None else self.reduction.all_true(finite)


def _build(optimizer: Any, trainable_variables: Any) -> list[Any]:
    """The variables of the gradients; an optimizer without its own gets them, as apply would do it."""
    if trainable_variables is None:
        return list(optimizer._trainable_variables)
    variables = list(trainable_variables)
    if not optimizer.built:
        with keras.name_scope(optimizer.name, caller=optimizer):
            optimizer.build(variables)
        optimizer.built = True
    return variables


def _replace(instance: Any, name: str, replacement: Callable[..., Any]) -> None:
    original = getattr(instance, name)

    def method(*arguments: Any, **options: Any) -> Any:
        return replacement(original, *arguments, **options)

    object.__setattr__(instance, name, collectives.without_conversion(method))


def innermost(optimizer: Any) -> Any:
    """The optimizer that updates the weights, within any LossScaleOptimizer.

    Args:
        optimizer: of Keras.

    Returns:
        An optimizer of Keras.

    Example:
        >>> sgd = keras.optimizers.SGD()
        >>> innermost(keras.optimizers.LossScaleOptimizer(sgd)) is sgd
        True
    """
    while isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer


def find_hook(optimizer: Any) -> Hook | None:
    """The hook of an optimizer, or of one within it, if there is one.

    Args:
        optimizer: of Keras.

    Example:
        >>> find_hook(keras.optimizers.SGD()) is None
        True
    """
    while True:
        hook: Hook | None = vars(optimizer).get(_ATTRIBUTE)
        if hook is not None or not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            return hook
        optimizer = optimizer.inner_optimizer


def hook_of(optimizer: Any) -> Hook:
    """The hook of an optimizer; one without a reduction is put on it where there is none.

    Args:
        optimizer: of Keras; the outermost one.

    Returns:
        The same hook at every call.

    Example:
        >>> optimizer = keras.optimizers.SGD()
        >>> hook_of(optimizer) is hook_of(optimizer)
        True
    """
    hook = find_hook(optimizer)
    if hook is None:
        return Hook(optimizer)
    if hook.optimizer is not optimizer and optimizer is not hook.optimizer_with_rate:
        hook.move_to(optimizer)
    return hook
