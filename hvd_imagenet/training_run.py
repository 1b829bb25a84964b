"""The course of a run, without a framework: where it starts, what is reported, when it ends.

Both trainers drive this: it turns the sums of every iteration into rows of iterations.csv and metrics.csv, knows
which epochs an iteration ends. Rank 0 alone has a run folder.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hvd_imagenet.bad_images import BadImages
from hvd_imagenet.checkpoint import BackgroundWriter, Checkpoint
from hvd_imagenet.checkpoint_timer import CheckpointTimer
from hvd_imagenet.communicator import Communicator, together
from hvd_imagenet.core.metrics import Sums, median_of_last
from hvd_imagenet.epoch_clock import EpochClock, waiting_advice
from hvd_imagenet.errors import AgreedError
from hvd_imagenet.nonfinite import Nonfinite
from hvd_imagenet.preemption import SIGNALS, Signals
from hvd_imagenet.progress import epoch_line
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_folder import BAD_IMAGES, RunFolder

_MUCH_WAITING_PERCENT = 5.0
NOTES = 3 + len(SIGNALS)
"""How many numbers each process adds to the sums of an iteration, see TrainingRun.notes."""


@dataclass
class TrainingRun:
    """A run in progress, the same on every process.

    Args:
        recipe: of the run.
        images: N, number of training images.
        folder: where rank 0 writes; None on the others.
        stop_at: iterations after which the run ends.
        log: shows a line to the user; does nothing on other ranks.
        iteration: t of the coming iteration.
        epoch_sums: what was summed since the last row of metrics.csv.
        epochs_done: rows of metrics.csv.
        resumed_from: iteration of the checkpoint that this process started from; 0 if none.
        bad_images: that could not be read, and how many there may be.
        clock: of the epoch in progress.
        threads: that decode images in each process; None if that is not known, or none are: no advice then.
        classes: names of the training classes; kept in checkpoints. Empty if they are not known.
        signals: that tell the run to leave.
        timer: of checkpoints.
        writer: of checkpoints; rank 0 alone gives it any.
        nonfinite: iterations that were passed over.
        validation_due: an epoch's validation is still to be made.
    """

    recipe: Recipe
    images: int
    folder: RunFolder | None
    stop_at: int
    log: Callable[[str], None]
    iteration: int = 0
    epoch_sums: Sums = field(default_factory=Sums)
    epochs_done: int = 0
    resumed_from: int = 0
    bad_images: BadImages = field(default_factory=BadImages)
    clock: EpochClock = field(default_factory=EpochClock)
    threads: int | None = None
    classes: tuple[str, ...] = ()
    signals: Signals = field(default_factory=Signals)
    timer: CheckpointTimer = field(default_factory=CheckpointTimer)
    writer: BackgroundWriter = field(default_factory=BackgroundWriter)
    nonfinite: Nonfinite = field(default_factory=Nonfinite)
    validation_due: bool = False
    _validated: tuple[int, float] = (-1, math.nan)

    def open_folder(self, out: Path, config: Mapping[str, Any]) -> None:
        """Begins to write the run folder, or goes on with it; on rank 0 alone.

        Args:
            out: the run's folder, which exists.
            config: the options, plain data.
        """
        self.folder = RunFolder(out, config, self.iteration, self.epochs_done)
        self.folder.bad_images(self.bad_images.rows)

    def record(self, iteration: int, lr: float, sums: Sums) -> None:
        """Takes the sums of one iteration over all processes; call it in the order of iterations.

        Args:
            iteration: t.
            lr: η of its step.
            sums: over the whole minibatch; of an iteration that was passed over they are left out.
        """
        skipped = iteration in self.nonfinite.skipped
        if not skipped:
            self.epoch_sums += sums
        self.clock.count(sums.images)
        if self.folder is not None:
            progress = self.recipe.workers.progress_epochs(iteration, self.images)
            self.folder.iteration(iteration, progress, lr, math.nan if skipped else sums.mean_loss)

    def rows_due(self) -> list[int]:
        """The epochs that get a row now, after iteration − 1: those it ended, or the unfinished last one."""
        ended = range(self.epochs_done, self.iteration * self.recipe.minibatch // self.images)
        wanted = [epoch for epoch in ended if epoch < self.recipe.epochs]
        if self.iteration == self.stop_at and not wanted:
            wanted = [self.epochs_done]
        return wanted

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.iteration >= self.stop_at and not self.validation_due

    def notes(self, rank: int) -> list[float]:
        """What this process tells the others with the sums of an iteration; NOTES numbers.

        Args:
            rank: of this process; rank 0 has the clock of checkpoints.

        Returns:
            New bad images; whether a checkpoint is due; whether one could not be written; which signals have come.
        """
        due, failed = float(rank == 0 and self.timer.due), float(self.writer.failed)
        return [float(self.bad_images.take(self.iteration)), due, failed, *self.signals.of_this_process()]

    def heed(self, iteration: int, totals: Sequence[float], communicator: Communicator) -> None:
        """Takes the sums of `notes` over all processes; call it on all of them together.

        Args:
            iteration: t.
            totals: NOTES numbers.
            communicator: the job's.

        Raises:
            AgreedError: there are more bad images than allowed, or a checkpoint could not be written; on all processes.
        """
        bad_images, due, failed, *signals = totals
        self.timer.agreed = bool(due)
        self.signals.agree(signals)
        if failed:
            together(communicator, self.writer.wait)
        self.record_bad_images(iteration, bad_images, communicator)

    def record_bad_images(self, iteration: int, total: float, communicator: Communicator) -> None:
        """Takes the images of one iteration that could not be read; call it on all processes together.

        Args:
            iteration: t.
            total: how many were new to the process that met them, over all processes.
            communicator: the job's.

        Raises:
            AgreedError: there are more than allowed; on all processes.
        """
        bad = self.bad_images
        if not bad.agree(iteration, total, communicator):
            return
        if self.folder is not None:
            self.folder.bad_images(bad.rows)
            self.folder.flush()
        if bad.too_many:
            where = communicator.gather(None if self.folder is None else str(self.folder.path / BAD_IMAGES))[0]
            _, name, reason = bad.rows[-1]
            raise AgreedError(
                f"--bad-images skip={bad.allowed}: {len(bad.rows)} images cannot be read, {name} ({reason}) the last; "
                f"mend or remove those in {where}, or allow more",
                spokesman=0,
            )

    def speed(self, communicator: Communicator) -> tuple[float, float | None]:
        """Of the time since the last row, without validation and checkpoints; call it on all processes together.

        Args:
            communicator: the job's.

        Returns:
            Images a second over all processes; the share of the time spent waiting for images, in percent, the mean
            over the processes, or None if it is not measured.
        """
        percent = self.clock.wait_percent()
        if percent is not None:
            percent = float(communicator.sum(np.array([percent]))[0]) / communicator.size
        return self.clock.images_per_second(), percent

    def end_epochs(
        self, epochs: list[int], lr: float, speed: float, validation: Sums, wait_percent: float | None = None
    ) -> None:
        """Writes the rows of epochs, all with the same numbers, and begins to sum anew.

        The row of an epoch that was stopped before its end is preliminary: a run that goes on writes it again.

        Args:
            epochs: of rows_due.
            lr: η of the last step.
            speed: images a second, measured before validation.
            validation: over all validation images.
            wait_percent: share of the time spent waiting for images; None if it was not measured.
        """
        train = self.epoch_sums
        for epoch in epochs:
            row = {
                "epoch": epoch,
                "iteration": self.iteration - 1,
                "lr": repr(lr),
                "train_loss": f"{train.mean_loss:.6f}",
                "train_error": f"{train.error:.4f}",
                "val_loss": f"{validation.mean_loss:.6f}",
                "val_error": f"{validation.error:.4f}",
                "val_error_top5": f"{validation.error_top5:.4f}",
                "images_per_second": f"{speed:.1f}",
                "data_wait_percent": "" if wait_percent is None else f"{wait_percent:.2f}",
            }
            if self.folder is not None:
                self.folder.epoch(row)
            self.log(epoch_line(epoch, self.recipe.epochs, lr, speed, train, validation))
        if self.iteration * self.recipe.minibatch >= (epochs[-1] + 1) * self.images:
            self.epochs_done += len(epochs)
            self.epoch_sums = Sums()
        self.validation_due = False
        self._validated = (self.iteration, validation.error)
        if (wait_percent or 0.0) > _MUCH_WAITING_PERCENT and self.threads is not None:
            self.log(waiting_advice(wait_percent or 0.0, self.threads, len(os.sched_getaffinity(0))))
            self.threads = None  # it is said once
        self.clock.restart()

    def manifest(self, lr: float, data_fingerprint: str, framework: str, versions: Mapping[str, str]) -> dict[str, Any]:
        """What a checkpoint says of the run, but for the iteration.

        Args:
            lr: η of the last step.
            data_fingerprint: of the training images.
            framework: torch or keras.
            versions: of packages.

        Returns:
            Plain JSON data.
        """
        iteration, error = self._validated
        measured = iteration == self.iteration and math.isfinite(error)
        return {
            "lr": lr,
            "val_error": error if measured else None,
            "recipe": asdict(self.recipe),
            "recipe_hash": self.recipe.hash,
            "data_fingerprint": data_fingerprint,
            "classes": list(self.classes) or None,
            "epoch_sums": asdict(self.epoch_sums),
            "epochs_done": self.epochs_done,
            "bad_images": self.bad_images.rows,
            "nonfinite": self.nonfinite.skipped,
            "validation_due": self.validation_due,
            "framework": framework,
            "versions": dict(versions),
        }

    def resume(self, checkpoint: Checkpoint) -> None:
        """Goes on behind a checkpoint's last iteration.

        Args:
            checkpoint: of the same recipe and data.
        """
        self.iteration = self.resumed_from = checkpoint.iteration
        self.epoch_sums = Sums(**checkpoint.manifest["epoch_sums"])
        self.epochs_done = checkpoint.manifest["epochs_done"]
        self.bad_images.restore(checkpoint.manifest.get("bad_images", []))
        self.nonfinite.skipped = list(checkpoint.manifest.get("nonfinite", []))
        self.validation_due = checkpoint.manifest.get("validation_due", False) and bool(self.rows_due())

    def summary(self, processes: int, framework: str) -> dict[str, Any]:
        """The contents of summary.json; rank 0 only.

        Args:
            processes: of the job.
            framework: torch or keras.

        Returns:
            Plain JSON data; errors in percent, None where no validation was made.
        """
        errors = self.folder.validation_errors if self.folder is not None else []
        return {
            "val_error_median_last5": median_of_last(errors) if errors else None,
            "val_error_final": errors[-1] if errors else None,
            "iterations": self.iteration,
            "images": self.images,
            "minibatch": self.recipe.minibatch,
            "per_worker": self.recipe.per_worker,
            "workers": self.recipe.workers.workers,
            "processes": processes,
            "framework": framework,
            "recipe_hash": self.recipe.hash,
            "resumed_from_iteration": self.resumed_from,
            "bad_images": len(self.bad_images.rows),
            "nonfinite_skipped": len(self.nonfinite.skipped),
        }
