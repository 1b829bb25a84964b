"""Checkpoints of model.fit in the format of both frameworks."""

from typing import Any

import keras
import numpy as np

from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.communicator import together
from hvd_imagenet.core.minibatch import positive_integer
from hvd_imagenet.course import save_checkpoint
from hvd_imagenet.errors import UserError
from hvd_imagenet.heartbeat import during
from hvd_imagenet.keras.callbacks.run import Run
from hvd_imagenet.keras.callbacks.validation import ExactValidation
from hvd_imagenet.keras.communication import broadcast_variables
from hvd_imagenet.keras.optimizers import SGD, innermost
from hvd_imagenet.keras.state import checkpoint_tensors, load_into, model_arrays, versions
from hvd_imagenet.keras.variables import copy_into, model_variables
from hvd_imagenet.nonfinite import all_finite, refuse_nonfinite

_OTHER_OPTIMIZER = "keras_optimizer"


class ResumableCheckpoint(keras.callbacks.Callback):
    """Saves a run at the end of every epoch and every so many updates, and goes on where it was stopped.

    It belongs behind RunLogger in the list. At the begin of training rank 0 puts the run's newest checkpoint into the
    model and the optimizer, and all ranks take over rank 0's weights and optimizer variables; the data must then begin
    with the images of `run.iteration`. A checkpoint holds momentum in PyTorch's form (SGD of this package or of
    Keras), so that it can be gone on with in PyTorch; the variables of another optimizer serve Keras only.

    Args:
        run: of open_run.
        validation: of the run; it averages the running averages of batch normalisation.
        interval_iterations: updates between checkpoints beside those at the end of epochs; None for no more.

    Raises:
        ValueError: interval_iterations is not positive.
        AgreedError: at the begin of training, on all ranks: the checkpoint does not fit the model.
    """

    def __init__(self, run: Run, validation: ExactValidation, interval_iterations: int | None = None) -> None:
        super().__init__()
        positive_integer("interval_iterations", 1 if interval_iterations is None else interval_iterations)
        self.run, self.validation = run, validation
        self.interval_iterations = interval_iterations
        self._saved_at = run.iteration

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Loads the checkpoint, and gives all ranks the same weights and optimizer variables."""
        optimizer, state = self.model.optimizer, self.run.state
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        if self._saved_at == state.iteration == state.resumed_from:
            together(self.run.communicator, self._load)
        broadcast_variables(self._saved_variables(), root_rank=0)

    def _saved_variables(self) -> list[Any]:
        averages = [] if self.validation.ema is None else list(self.validation.ema.variables.values())
        return [*model_variables(self.model).values(), *self.model.optimizer.variables, *averages]

    def _load(self) -> None:
        checkpoint, optimizer = self.run.checkpoint, self.model.optimizer
        if checkpoint is None:
            return
        what, inner = f"checkpoint in {self.run.out}", innermost(optimizer)
        others = checkpoint.tensors.get(_OTHER_OPTIMIZER)
        if _keeps_momentum(optimizer) != (others is None):
            raise UserError(f"{what}: it is of another optimizer than {type(inner).__name__}; compile with that one")
        optimizer.learning_rate = checkpoint.manifest["lr"]
        if others is None:
            load_into(checkpoint.tensors, self.model, optimizer, self.validation.ema, what)
            inner._iterations.assign(checkpoint.iteration * (inner.gradient_accumulation_steps or 1))
            return
        copy_into(model_variables(self.model), checkpoint.tensors["model"], what)
        variables = {str(number): variable for number, variable in enumerate(optimizer.variables)}
        if {name: each.shape for name, each in variables.items()} != {n: each.shape for n, each in others.items()}:
            raise UserError(f"{what}: it is of another optimizer than {type(inner).__name__}; compile with that one")
        for name, variable in variables.items():
            variable.assign(others[name])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves after the last update of an epoch or an interval."""
        iteration = self.run.iteration
        if iteration == self._saved_at:
            return
        due = (
            self.interval_iterations
            and iteration // self.interval_iterations > self._saved_at // self.interval_iterations
        )
        state = self.run.state
        if due or state.timer.agreed or self.run.rows_at == iteration or iteration >= state.stop_at:
            self.save()

    def save(self) -> None:
        """Writes a checkpoint; call it on all ranks together.

        Raises:
            AgreedError: weights are no finite numbers; on all ranks.
        """
        with self.run.state.clock.paused(), during("saving a checkpoint", self.run.iteration - 1):
            self._save()

    @property
    def is_saved(self) -> bool:
        """Whether the run has not moved since it was saved or loaded."""
        return self._saved_at == self.run.iteration

    def _save(self) -> None:
        run = self.run
        self._saved_at = run.iteration
        run.state.timer.restart()
        run.write_rows()  # whoever goes on from this checkpoint does not make them again
        self.validation.average_batch_norm()
        saved = [np.asarray(each.numpy()) for each in self._saved_variables()]
        refuse_nonfinite(all_finite(each for each in saved if each.dtype.kind == "f"), run.iteration)
        save_checkpoint(run.state, run.out, run.communicator, self._checkpoint)

    def _checkpoint(self) -> Checkpoint:
        run, model, optimizer = self.run, self.model, self.model.optimizer
        lr = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        manifest = run.state.manifest(lr, run.data_fingerprint, "keras", versions())
        if _keeps_momentum(optimizer):
            tensors = checkpoint_tensors(model, optimizer, self.validation.ema)
        else:
            others = {str(n): np.array(keras.ops.convert_to_numpy(each)) for n, each in enumerate(optimizer.variables)}
            tensors = {"model": model_arrays(model), "momentum": {}, _OTHER_OPTIMIZER: others}
        return Checkpoint(run.iteration, tensors, manifest)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits until the last checkpoint is on the disk.

        Raises:
            AgreedError: it could not be written; on all ranks.
        """
        together(self.run.communicator, self.run.state.writer.wait)


def _keeps_momentum(optimizer: Any) -> bool:
    return isinstance(innermost(optimizer), SGD | keras.optimizers.SGD)
