"""`hvd-imagenet train --framework keras`: the recipe out of the public callbacks and the optimizer adapter."""

from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any

import horovod.tensorflow as hvd
import keras
import numpy as np
import tensorflow as tf

from hvd_imagenet.checkpoint import read_weights
from hvd_imagenet.communicator import together
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.course import (
    agree_to_begin,
    already_finished,
    begin,
    finish,
    go_on,
    headline,
    image_names,
    iterations,
    leave,
    open_reader,
)
from hvd_imagenet.data.reader import Batch
from hvd_imagenet.errors import Preempted
from hvd_imagenet.heartbeat import beat
from hvd_imagenet.job import in_job
from hvd_imagenet.keras.callbacks.checkpoint import ResumableCheckpoint
from hvd_imagenet.keras.callbacks.run import Run, RunLogger
from hvd_imagenet.keras.callbacks.schedule import LearningRateSchedule
from hvd_imagenet.keras.callbacks.validation import ExactValidation
from hvd_imagenet.keras.evaluation import validation_batches
from hvd_imagenet.keras.network import build_network
from hvd_imagenet.keras.optimizer import DistributedOptimizer
from hvd_imagenet.keras.optimizers import optimizer_of
from hvd_imagenet.keras.session import choose_device, join_job, set_backends
from hvd_imagenet.keras.variables import copy_into, model_variables
from hvd_imagenet.preemption import Signals, WatchedReader
from hvd_imagenet.progress import Progress
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import Session, config_of, prepare

_COMPRESSIONS = {"none": hvd.Compression.none, "fp16": hvd.Compression.fp16}


def train(recipe: Recipe, config: RunConfig, signals: Signals | None = None) -> None:
    """Runs a recipe; every process of the job calls it.

    Args:
        recipe: the science.
        config: the rest.
        signals: that tell the run to leave; none do if None.

    Raises:
        AgreedError: a mistake of the user, on all processes.
        Preempted: a signal has ended the run, which is saved; on all processes.
    """
    communicator = join_job(config.launched_size)

    def run() -> None:
        device = together(communicator, lambda: choose_device(communicator.local_rank))
        set_backends(config.deterministic, config.tf32)
        Trainer(recipe, config, prepare(recipe, config, communicator), device, signals).run()

    in_job(communicator, hvd.shutdown, run)


class Trainer:
    """One run on this process.

    Args:
        recipe: the science.
        config: the rest.
        session: what the job agreed on.
        device: that this process computes on, for the headline.
        signals: that tell the run to leave; none do if None.
    """

    def __init__(
        self, recipe: Recipe, config: RunConfig, session: Session, device: str, signals: Signals | None = None
    ) -> None:
        self.recipe, self.config, self.session, self.device = recipe, config, session, device
        keras.config.set_floatx(config.dtype)  # of the learning rate's variable too
        self.state = begin(recipe, config, session, self._log, signals)
        go_on(self.state, session.checkpoint, session.communicator)
        self.progress = Progress(
            shown=session.communicator.rank == 0,
            bar=config.progress_bar and not self.state.finished,
            iterations=self.state.stop_at,
            done=self.state.iteration,
            minibatch=recipe.minibatch,
        )
        self.network = build_network(recipe, config, len(session.train.classes), len(session.workers))
        together(session.communicator, self._load_initial)
        self.network.compile(optimizer=self._optimizer(), jit_compile=False)
        self.step = tf.function(lambda *data: self.network.train_step(data), autograph=False)

    def _load_initial(self) -> None:
        """The first callback gives rank 0's weights to all ranks."""
        path, session = self.config.initial_checkpoint, self.session
        if path is None or session.resumed or session.communicator.rank != 0:
            return
        weights = read_weights(path)
        copy_into(model_variables(self.network.model), weights, f"--initial-checkpoint {path}")
        if self.network.ema is not None:
            copy_into(self.network.ema.variables, weights, f"--initial-checkpoint {path}")

    def _log(self, line: str) -> None:
        self.progress.line(line)

    def _optimizer(self) -> keras.optimizers.Optimizer:
        optimizer = optimizer_of(self.recipe, self.network)
        # Every process's gradient is its part of the sum over the minibatch.
        return DistributedOptimizer(optimizer, op=hvd.Sum, compression=_COMPRESSIONS[self.config.compression])

    def run(self) -> None:
        """Trains to the end or until a signal comes, or says that there is nothing left to do.

        Raises:
            AgreedError: a mistake of the user, on all processes.
            Preempted: a signal has ended the run, which is saved; on all processes.
        """
        state, session = self.state, self.session
        if state.finished:
            self._log(already_finished(state, session, self.config))
            self.progress.close()
            return
        if session.communicator.rank == 0:
            state.open_folder(session.out, config_of(self.recipe, self.config))
        self._make_callbacks()
        self._log(headline(self.recipe, session, state, self.device))
        try:
            agree_to_begin(state, session.communicator)
            self._train()
        except Preempted:
            if not self.checkpoint.is_saved:
                self.checkpoint.save()
            self.progress.close()
            leave(state, session, self.config)
            raise
        self.progress.close()
        finish(state, session, self.config)

    def _train(self) -> None:
        state, callbacks = self.state, self.callbacks
        callbacks.on_train_begin()
        if state.validation_due:  # a signal came in its midst
            self.logger.end_epochs_due()
            self.checkpoint.save()
        with closing(iterations(state, self.config, self.session)) as taken:
            for t, batches in enumerate(taken, start=state.iteration):
                callbacks.on_train_batch_begin(t)
                callbacks.on_train_batch_end(t, self._step(t, *_joined(batches)))
                if not state.finished:
                    state.signals.stop_if_agreed()
        callbacks.on_train_end()

    def _step(self, t: int, pixels: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        """One iteration; the logs are the fields of Sums."""
        state, session = self.state, self.session
        beat("computing", t)
        notes = np.array(state.notes(session.communicator.rank))
        results = {name: value.numpy() for name, value in self.step(pixels, labels, notes).items()}
        beat("updating", t)  # else a rank that hangs from here on would seem to wait for the others
        if not results["finite"]:
            concerned = self.network.passes_concerned(pixels, labels)
            images = image_names(session, self.recipe, self.config, t, concerned)
            self._log(state.nonfinite.meet(t, images, session.communicator, state.folder))
        state.heed(t, results["notes"].tolist(), session.communicator)
        return asdict(Sums(*results["sums"].tolist()))

    def _make_callbacks(self) -> None:
        """What surrounds the steps, in the order in which they need each other."""
        recipe, session = self.recipe, self.session
        run = Run(self.state, session.out, session.communicator, session.checkpoint, session.data_fingerprint)
        validation = _Validation(recipe, self.config, session, self.state.signals)
        validation.ema = self.network.ema
        self.logger = RunLogger(run, validation, sums_of=lambda logs: Sums(**logs))
        self.logger.on_iteration = self.progress.iteration
        self.checkpoint = ResumableCheckpoint(run, validation, self.config.checkpoint_interval)
        schedule = LearningRateSchedule(recipe.learning_rate, recipe.workers, len(session.train))
        self.callbacks = keras.callbacks.CallbackList(
            [schedule, validation, self.logger, self.checkpoint], model=self.network
        )


class _Validation(ExactValidation):
    """ExactValidation of images that are decoded as they are needed."""

    def __init__(self, recipe: Recipe, config: RunConfig, session: Session, signals: Signals) -> None:
        super().__init__([], [])
        reader = WatchedReader(
            open_reader(session.validation, recipe.centre_crop, recipe, config),
            len(session.validation),
            signals,
            session.communicator,
        )
        self.batches, self.count = partial(validation_batches, reader), len(session.validation)
        self.share_of_workers = len(session.workers) / recipe.workers.workers


def _joined(batches: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """The passes of an iteration as one batch."""
    if len(batches) == 1:
        return batches[0]
    return np.concatenate([pixels for pixels, _ in batches]), np.concatenate([labels for _, labels in batches])
