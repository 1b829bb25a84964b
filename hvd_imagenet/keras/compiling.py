"""What Keras does with an optimizer that knows nothing of Horovod: compile() and LossScaleOptimizer, adapted once."""

import functools
import weakref
from typing import Any

import keras

from hvd_imagenet.errors import UserError
from hvd_imagenet.keras.backend import BACKEND, horovod
from hvd_imagenet.keras.hook import find_hook
from hvd_imagenet.keras.reduction import Reduction

compiled_models: "list[weakref.ref[Any]]" = []
"""The models that were compiled since adapt_keras(), in that order."""
_told: set[str] = set()
_PRIVATE = {
    "Model": ("_flatten_layers", "compile", "make_train_function", "train_step"),
    "optimizers.LossScaleOptimizer": ("check_finite",),
    "optimizers.Optimizer": ("_backend_apply_gradients", "_clip_gradients", "_var_key", "apply"),
}
"""What is taken of Keras beyond its documentation."""


@functools.cache
def adapt_keras() -> None:
    """Adapts compile() and LossScaleOptimizer, and makes `optimizer.lr` an error; does nothing when called again.

    Raises:
        UserError: this version of Keras lacks what is adapted.

    Example:
        >>> adapt_keras()
    """
    check_keras(keras)
    _adapt_compile()
    _adapt_make_train_function()
    _adapt_optimizer()
    _adapt_loss_scale_optimizer()
    keras.optimizers.Optimizer.lr = property(_lr, _set_lr)


def check_keras(module: Any) -> None:
    """Makes sure that Keras has the methods, private ones too, on which this package relies.

    Args:
        module: keras.

    Raises:
        UserError: one is missing.

    Example:
        >>> check_keras(keras)
    """
    for kind, names in _PRIVATE.items():
        for name in names:
            if not hasattr(functools.reduce(getattr, kind.split("."), module), name):
                raise UserError(
                    f"Keras {module.__version__} has no {kind}.{name}, which hvd_imagenet.keras needs; "
                    "install the version that it was tested with: pip install keras==3.15.1"
                )


def _owner(kind: type, name: str) -> Any:
    """The class that has a method: Keras takes a model with another compile() for one that is not loaded compiled."""
    return next(each for each in kind.__mro__ if name in vars(each))


def _adapt_compile() -> None:
    owner = _owner(keras.Model, "compile")
    original = owner.compile

    @functools.wraps(original)
    def compile(self: Any, *arguments: Any, **options: Any) -> None:
        if "experimental_run_tf_function" in options:
            del options["experimental_run_tf_function"]
            tell("compile(experimental_run_tf_function=…) means nothing in Keras 3 and is ignored: leave it out")
        original(self, *arguments, **options)
        after_compile(self)

    owner.compile = compile


def _adapt_make_train_function() -> None:
    owner = _owner(keras.Model, "make_train_function")
    original = owner.make_train_function

    @functools.wraps(original)
    def make_train_function(self: Any, *arguments: Any, **options: Any) -> Any:
        if Reduction.exists:  # maybe in optimizers that a train_step of the user's has for itself
            _turn_off_xla(self)
        return original(self, *arguments, **options)

    owner.make_train_function = make_train_function


def _adapt_optimizer() -> None:
    owner = _owner(keras.optimizers.Optimizer, "__init__")
    original = owner.__init__

    @functools.wraps(original)
    def init(self: Any, *arguments: Any, **options: Any) -> None:
        if "lr" in options:
            kind, rate = type(self).__name__, options["lr"]
            raise ValueError(f"{kind}(lr={rate!r}) is of older Keras: write {kind}(learning_rate={rate!r})")
        original(self, *arguments, **options)

    owner.__init__ = init


def _turn_off_xla(model: Any) -> None:
    if model.jit_compile:
        model.jit_compile = False
        compiler = "XLA" if BACKEND == "tensorflow" else "torch.compile"
        tell(f"jit_compile is turned off: {compiler} cannot compile Horovod's collectives")


def after_compile(model: Any) -> None:
    """What a compiled model needs where its optimizer has a hook.

    Args:
        model: its hook is moved outwards if compile() has put a LossScaleOptimizer around it; XLA is turned off.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile()
        >>> after_compile(model)
    """
    compiled_models[:] = [each for each in compiled_models if each() not in (None, model)]
    compiled_models.append(weakref.ref(model))
    hook = find_hook(model.optimizer) if model.optimizer is not None else None
    if hook is None:
        return
    if hook.optimizer is not model.optimizer:
        hook.move_to(model.optimizer)
    if hook.reduction is not None:
        hook.reduction.model = weakref.ref(model)
        _turn_off_xla(model)


def tell(line: str) -> None:
    """Prints a line once, on rank 0.

    Args:
        line: for the user.

    Example:
        >>> tell("said once")
        hvd_imagenet: said once
        >>> tell("said once")
    """
    if line not in _told and (not horovod.is_initialized() or horovod.rank() == 0):
        print(f"hvd_imagenet: {line}", flush=True)
    _told.add(line)


def _adapt_loss_scale_optimizer() -> None:
    original = keras.optimizers.LossScaleOptimizer.__init__

    @functools.wraps(original)
    def init(self: Any, inner_optimizer: Any, *arguments: Any, **options: Any) -> None:
        original(self, inner_optimizer, *arguments, **options)
        hook = find_hook(self)
        if hook is not None:
            hook.move_to(self)

    keras.optimizers.LossScaleOptimizer.__init__ = init


def _lr(optimizer: Any) -> Any:
    if "lr" in vars(optimizer):
        return vars(optimizer)["lr"]
    raise AttributeError(f"{type(optimizer).__name__} has no attribute 'lr' in Keras 3: write optimizer.learning_rate")


def _set_lr(optimizer: Any, value: Any) -> None:
    if find_hook(optimizer) is not None:
        raise AttributeError(
            f"optimizer.lr = {value!r} would change nothing in Keras 3: write optimizer.learning_rate = {value!r}"
        )
    vars(optimizer)["lr"] = value  # some other class's own attribute
