"""The same weights and the same state of the optimizer on all ranks before the first step."""

from collections.abc import Collection, Sequence
from typing import Any

import keras

from hvd_imagenet.communicator import together
from hvd_imagenet.errors import AgreedError, UserError
from hvd_imagenet.keras.communication import HorovodCommunicator, broadcast_variables
from hvd_imagenet.keras.compiling import tell
from hvd_imagenet.keras.hook import find_hook


class BroadcastVariables(keras.callbacks.Callback):
    """Gives all ranks the weights and optimizer variables of one, before the first step of every fit.

    The states of seed generators (dropout, augmentation) are left alone: ranks that draw alike would learn less.
    TensorFlow builds a model that does not know its input (Sequential without Input, subclassed ones) only in the
    first step; such a model is built here from the shapes of the data, just before that step. Callbacks whose
    on_train_begin loads weights on one rank belong before this one in the list. Of a model with several optimizers, as
    a GAN has, only model.optimizer is known here: add hvd.broadcast_variables(optimizer.variables, 0) for the others.

    Every rank makes sure here that all have the same number of steps, and that model.optimizer is distributed.

    Args:
        root_rank: whose variables are taken.
        local_variables: variables (or one) that each rank keeps.

    Raises:
        ValueError: an argument is wrong.
        AgreedError: in training, on all ranks, if the ranks' models or numbers of steps differ, one model cannot be
            built from the data, or an optimizer's gradients would not be reduced.

    Example:
        >>> callback = BroadcastVariables(root_rank=0)
    """

    def __init__(self, root_rank: int = 0, local_variables: Collection[Any] | Any = None) -> None:
        super().__init__()
        if isinstance(root_rank, bool) or not isinstance(root_rank, int) or root_rank < 0:
            raise ValueError(f"root_rank must be an integer of 0 or more, not {root_rank!r}")
        self.root_rank = root_rank
        self._local: list[Any] = []
        if local_variables is not None:
            several = isinstance(local_variables, Collection) and not hasattr(local_variables, "assign")
            for variable in local_variables if several else [local_variables]:
                self.register_local_var(variable)
        self._waits = False

    def register_local_var(self, var: Any) -> None:
        """Leaves a variable out.

        Args:
            var: of Keras or of the framework.

        Raises:
            ValueError: it is no variable.
        """
        if not hasattr(var, "assign") and not hasattr(var, "copy_"):
            raise ValueError(f"local_variables must be variables, not {var!r}")
        self._local.append(var)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Broadcasts what is there; if some rank's model is not built yet, the optimizer's count and η only."""
        self._communicator = HorovodCommunicator()
        if self.root_rank >= self._communicator.size:
            raise ValueError(
                f"root_rank must be below the number of ranks, but {self.root_rank} is not below "
                f"{self._communicator.size}"
            )
        if self._communicator.size == 1:
            return
        # On other backends fit has built what it can; a layer that is never called stays unbuilt.
        built = keras.backend.backend() != "tensorflow" or all(layer.built for layer in self.model._flatten_layers())
        mine = built, (self.params or {}).get("steps"), _undistributed(self.model)
        all_built, steps, undistributed = zip(*self._communicator.gather(mine), strict=True)
        _check(steps, undistributed)
        self._waits = not all(all_built)
        if self._waits:
            # A schedule looks at them before the first step.
            variables = [] if self.model.optimizer is None else self.model.optimizer.variables
            early = [each for each in variables if each.name in ("iteration", "learning_rate")]
            broadcast_variables(early, self.root_rank)
        else:
            self._broadcast()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts building and broadcasting in front of the first step, where the shapes of the data are known."""
        if not self._waits:
            return
        self._waits = False
        step = self.model.train_function

        def build_and_step(data: Any) -> Any:
            self.model.train_function = step
            together(self._communicator, lambda: _build(self.model, data))
            self._broadcast()
            return step(data)

        self.model.train_function = build_and_step

    def _broadcast(self) -> None:
        optimizer = self.model.optimizer
        variables = [*self.model.weights]  # without the seeds of `variables`
        if optimizer is not None:
            if not optimizer.built:
                optimizer.build(self.model.trainable_variables)
            variables += optimizer.variables
        broadcast_variables([each for each in variables if not self._is_local(each)], self.root_rank)

    def _is_local(self, variable: Any) -> bool:
        return any(local is variable or local is variable.value for local in self._local)


def _undistributed(model: Any) -> str | None:
    """The class of an optimizer whose gradients nobody reduces; None where a step of the user's own may do it."""
    hook = None if model.optimizer is None else find_hook(model.optimizer)
    if hook is not None and hook.reduction is not None:
        return None
    if type(model).train_step is keras.Model.train_step and "train_step" not in vars(model):
        return type(model.optimizer).__name__
    tell(
        f"{type(model).__name__}.train_step is its own, and model.optimizer is not distributed: gradients are reduced "
        "by hvd.DistributedOptimizer alone, and other optimizers are broadcast by hvd.broadcast_variables"
    )
    return None


def _check(steps: Sequence[int | None], undistributed: Sequence[str | None]) -> None:
    for rank, kind in enumerate(undistributed):
        if kind is not None:
            raise AgreedError(
                f"the optimizer {kind} on rank {rank} is not distributed, its gradients would not be reduced: compile "
                "with hvd.DistributedOptimizer(optimizer), and load a saved model with hvd.load_model",
                spokesman=rank,
            )
    known = [(rank, number) for rank, number in enumerate(steps) if number is not None]
    for rank, number in known:
        if number != known[0][1]:
            raise AgreedError(
                f"rank {rank} has {number} steps an epoch, rank {known[0][0]} has {known[0][1]}: give all ranks "
                "the same number of batches, e.g. with fit(steps_per_epoch=…)",
                spokesman=rank,
            )


def _build(model: Any, data: Any) -> None:
    """Makes a model's variables from the shapes of the batches of an iterator, without taking one."""
    try:
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data.element_spec)
        model(keras.tree.map_structure(_symbolic, inputs))
    except Exception as error:
        raise UserError(
            f"the model {model.name!r} has no weights to broadcast before its first step, and the shapes of the data "
            f"do not suffice to build it ({type(error).__name__}: {str(error).strip().splitlines()[0]}); build it "
            "before fit: model.build(input_shape), or call it on one batch"
        ) from error


def _symbolic(spec: Any) -> Any:
    """A tensor without values, as Keras builds functional models of."""
    kind = type(spec).__name__
    if not hasattr(spec, "shape"):
        return None
    if spec.shape.rank is None:
        raise ValueError("the data have no known number of dimensions")
    options = {"sparse": kind == "SparseTensorSpec", "ragged": kind == "RaggedTensorSpec"}
    return keras.KerasTensor(tuple(spec.shape), spec.dtype.name, **{name: True for name, on in options.items() if on})
