"""A run folder out of model.fit, the same that `hvd-imagenet train` writes in PyTorch."""

import dataclasses
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Checkpoint, Found
from hvd_imagenet.communicator import Communicator, together
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.core.minibatch import positive_integer
from hvd_imagenet.course import go_on
from hvd_imagenet.errors import UserError
from hvd_imagenet.heartbeat import during
from hvd_imagenet.keras.callbacks.validation import ExactValidation
from hvd_imagenet.keras.communication import HorovodCommunicator
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.resuming import check_same_run
from hvd_imagenet.run_folder import SUMMARY, RunFolder
from hvd_imagenet.training_run import TrainingRun

_SECONDS_BETWEEN_REDUCTIONS = 1.0
_TOP_1 = ("accuracy", "acc", "sparse_categorical_accuracy", "categorical_accuracy")
_TOP_5 = ("sparse_top_k_categorical_accuracy", "top_k_categorical_accuracy")


@dataclass
class Run:
    """A run in progress, which RunLogger writes and ResumableCheckpoint saves; see open_run.

    Args:
        state: where it stands, the same on all ranks.
        out: the run folder.
        communicator: the job's.
        checkpoint: to go on from; rank 0 only, None if there is none.
        data_fingerprint: of the training images.
        rows_at: the iteration after which rows of metrics.csv were last written.
        write_rows: writes those of iterations.csv that RunLogger still keeps; called on all ranks together.
    """

    state: TrainingRun
    out: Path
    communicator: Communicator
    checkpoint: Checkpoint | None = None
    data_fingerprint: str = ""
    rows_at: int = field(default=-1)
    write_rows: Callable[[], None] = field(default=lambda: None)

    @property
    def iteration(self) -> int:
        """T of the coming iteration: which images are next."""
        return self.state.iteration

    @property
    def epochs_done(self) -> int:
        """Epochs that are over; the initial_epoch of a fit that goes on behind one."""
        return self.state.epochs_done


def open_run(out: str | Path, recipe: Recipe, images: int, data_fingerprint: str = "") -> Run:
    """Begins a run, or goes on with the one in the folder; call it on all ranks together, after hvd.init().

    Args:
        out: run folder; rank 0 writes it.
        recipe: its minibatch, epochs and schedule; its model's name is not looked at.
        images: N, number of training images.
        data_fingerprint: anything that tells the training images from others; checked at resume.

    Returns:
        The run; its `iteration` says which images are next.

    Raises:
        ValueError: images is not positive.
        AgreedError: on all ranks, the folder holds a run of another recipe, or cannot be written.

    Example:
        >>> import tempfile
        >>> from hvd_imagenet.keras.backend import horovod
        >>> horovod.init()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     open_run(folder, Recipe(minibatch=64, per_worker=32, warmup="none"), images=640).state.stop_at
        900
    """
    positive_integer("images", images)
    out, communicator = Path(out), HorovodCommunicator()
    run = Run(
        TrainingRun(recipe, images, None, recipe.workers.iterations(images, recipe.epochs), lambda line: None),
        out,
        communicator,
        data_fingerprint=data_fingerprint,
    )

    def read() -> Found:
        found = checkpoints.newest_readable(out) if communicator.rank == 0 else Found()
        if found.path is not None and found.checkpoint is not None:
            check_same_run(found.path, found.checkpoint.manifest, recipe, data_fingerprint)
        return found

    found = together(communicator, read)
    if found.warning is not None:
        print(f"warning: {found.warning}", file=sys.stderr, flush=True)
    run.checkpoint = found.checkpoint
    go_on(run.state, run.checkpoint, communicator)

    def make_folder() -> RunFolder | None:
        finished = run.iteration >= run.state.stop_at and (out / SUMMARY).exists()
        if communicator.rank != 0 or finished:  # nothing will be written: leave the folder as it is
            return None
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / "config.yaml").touch()
        except OSError as error:
            raise UserError(f"run folder {out}: cannot be written ({error.strerror}); choose another") from error
        config = {name: _plain(value) for name, value in dataclasses.asdict(recipe).items()}
        return RunFolder(out, {"framework": "keras", **config}, run.state.iteration, run.state.epochs_done)

    run.state.folder = together(communicator, make_folder)
    return run


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


class RunLogger(keras.callbacks.Callback):
    """Writes iterations.csv, metrics.csv, TensorBoard events and, at the end, summary.json.

    It counts the optimizer's updates, not Keras' epochs: an epoch's row is written after the update that takes its
    last image. The loss of an update is that over the whole minibatch, from the totals of the compiled metrics, added
    up over ranks about once a second. With steps_per_execution > 1 there is one row an execution.

    Args:
        run: of open_run.
        validation: gives an epoch's validation loss and errors.
        sums_of: from logs to the sums of an update over all ranks, where the step reduces them; None: from metrics.

    Raises:
        ValueError: validation is not among fit's callbacks; after the first step, if the model was compiled without
            accuracy among its metrics.
    """

    def __init__(
        self, run: Run, validation: ExactValidation, sums_of: Callable[[dict[str, Any]], Sums] | None = None
    ) -> None:
        super().__init__()
        self.run, self.validation = run, validation
        self._sums_of = sums_of
        self._metrics: _MetricTotals | None = None
        self._pending: list[tuple[int, float, Sums]] = []
        self._reduce_every = 1
        self._reduced_at_s = 0.0
        run.write_rows = self._reduce
        self.on_iteration: Callable[[int, float, float], None] = lambda iteration, lr, loss: None
        """Is told of every iteration that has been reduced: t, η, loss."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        if self.validation.model is None:
            raise ValueError("validation must be among fit's callbacks itself, before RunLogger: add it to the list")
        self._metrics = None
        self._reduced_at_s = time.monotonic()
        self.run.state.clock.restart()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keras has reset its metrics."""
        if self._metrics is not None:
            self._metrics.reset()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Takes an update, and writes the rows of epochs that it has ended."""
        state, optimizer = self.run.state, self.model.optimizer
        if self._sums_of is None:
            if self._metrics is None:  # Keras makes the metrics when it traces the first step
                self._metrics = _MetricTotals(self.model)
            self._metrics.add()
        done = int(keras.ops.convert_to_numpy(optimizer.iterations))
        if done == state.iteration:  # a pass that is accumulated, or a step that was skipped
            return
        lr = self._learning_rate(done - 1)
        sums = self._metrics.take() if self._metrics is not None else self._sums_of(logs or {})
        self._pending.append((done - 1, lr, sums))
        state.iteration = done
        rows = state.rows_due()
        if rows or self._sums_of is not None or len(self._pending) >= self._reduce_every:
            self._reduce()
        if rows:
            self._end_epochs(rows, lr)

    def _learning_rate(self, iteration: int) -> float:
        """η of an update; as the recipe has it where the optimizer's variable is that, rounded."""
        state, variable = self.run.state, keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        scheduled = state.recipe.learning_rate(state.recipe.workers.progress_epochs(iteration, state.images))
        return scheduled if variable == variable.dtype.type(scheduled) else float(variable)

    def _reduce(self) -> None:
        """Adds up over all ranks what was kept since the last time, in one reduction."""
        if not self._pending:
            return
        if self._sums_of is None:
            seconds = time.monotonic() - self._reduced_at_s
            mine = [dataclasses.astuple(sums) for _, _, sums in self._pending]
            # The time is reduced too: all ranks must agree on when the next reduction is.
            total = self.run.communicator.sum(np.array([seconds, *np.ravel(mine)]))
            of_one = total[0] / self.run.communicator.size / max(len(self._pending), 1)
            self._reduce_every = max(1, int(_SECONDS_BETWEEN_REDUCTIONS / max(of_one, 1e-3)))
            of_all = total[1:].reshape(-1, 4).tolist()
            self._pending = [(t, lr, Sums(*row)) for (t, lr, _), row in zip(self._pending, of_all, strict=True)]
            self._reduced_at_s = time.monotonic()
        for iteration, lr, sums in self._pending:
            self.run.state.record(iteration, lr, sums)
            self.on_iteration(iteration, lr, sums.mean_loss)
        self._pending = []

    def end_epochs_due(self) -> None:
        """Makes the validation in whose midst the run was stopped, if it was; call it on all ranks together."""
        state = self.run.state
        if state.validation_due:
            self._end_epochs(state.rows_due(), self._learning_rate(state.iteration - 1))

    def _end_epochs(self, rows: list[int], lr: float) -> None:
        state = self.run.state
        state.validation_due = True
        with during("validating", state.iteration - 1):
            if state.folder is not None:
                state.folder.flush()
            speed, wait_percent = state.speed(self.run.communicator)
            state.end_epochs(rows, lr, speed, self.validation.validate(), wait_percent)
        self.run.rows_at = state.iteration

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes what is left, and the summary if the run has reached its end.

        Raises:
            AgreedError: the last checkpoint could not be written; on all ranks.
        """
        self._reduce()
        state = self.run.state
        # With a summary the run counts as finished, and nobody would start it again.
        together(self.run.communicator, state.writer.wait)
        if state.folder is None:
            return
        state.folder.flush()
        if state.iteration >= state.stop_at:
            state.folder.close(state.summary(self.run.communicator.size, "keras"))


class _MetricTotals:
    """The sums of one update on this rank, as the growth of the totals that Keras' metrics keep over an epoch."""

    def __init__(self, model: Any) -> None:
        means = {metric.name: metric for metric in _flat(model.metrics) if isinstance(metric, keras.metrics.Mean)}
        top_1 = next((means[name] for name in _TOP_1 if name in means), None)
        if "loss" not in means or top_1 is None:
            raise ValueError(
                f"the model must be compiled with a loss and with accuracy among its metrics, not {sorted(means)}; "
                'compile(…, metrics=["accuracy"])'
            )
        top_5 = next((means[name] for name in _TOP_5 if name in means), None)
        self._metrics = (means["loss"], top_1, top_5)
        self._grown = np.zeros(4)
        self.reset()

    def reset(self) -> None:
        self._before = np.zeros(4)

    def add(self) -> None:
        """After every batch: the passes of an update may lie on both sides of an epoch's begin."""
        loss, top_1, top_5 = self._metrics
        now = np.array([_value(loss.count), _value(loss.total), _value(top_1.total), np.nan])
        if top_5 is not None:
            now[3] = _value(top_5.total)
        self._grown += now - self._before
        self._before = now

    def take(self) -> Sums:
        grown, self._grown = self._grown, np.zeros(4)
        return Sums(*grown.tolist())


def _flat(metrics: list[Any]) -> list[Any]:
    """Metrics with those that compile() keeps within one."""
    return [
        each for metric in metrics for each in (_flat(metric.metrics) if getattr(metric, "metrics", None) else [metric])
    ]


def _value(variable: Any) -> float:
    return float(keras.ops.convert_to_numpy(variable))
