"""The same weights and the same state of the optimizer on all ranks before the first step."""

from collections.abc import Collection
from typing import Any

import keras

from hvd_imagenet.communicator import together
from hvd_imagenet.errors import UserError
from hvd_imagenet.keras.communication import HorovodCommunicator, broadcast_variables


class BroadcastVariables(keras.callbacks.Callback):
    """Gives all ranks the weights and optimizer variables of one, before the first step of every fit.

    The states of seed generators (dropout, augmentation) are left alone: ranks that draw alike would learn less.
    TensorFlow builds a model that does not know its input (Sequential without Input, subclassed ones) only in the
    first step; such a model is built here from the shapes of the data, just before that step. Callbacks whose
    on_train_begin loads weights on one rank belong before this one in the list.

    Args:
        root_rank: whose variables are taken.
        local_variables: variables (or one) that each rank keeps.

    Raises:
        ValueError: an argument is wrong.
        AgreedError: in training, on all ranks, if the ranks' models differ or one cannot be built from the data.

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
        self._waits = not all(self._communicator.gather(built))
        if self._waits:
            # A schedule looks at them before the first step.
            early = [each for each in self.model.optimizer.variables if each.name in ("iteration", "learning_rate")]
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
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        variables = [*self.model.weights, *optimizer.variables]  # `weights` are without the seeds of `variables`
        broadcast_variables([each for each in variables if not self._is_local(each)], self.root_rank)

    def _is_local(self, variable: Any) -> bool:
        return any(local is variable or local is variable.value for local in self._local)


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
