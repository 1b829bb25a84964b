"""The training loop."""

from contextlib import closing
from math import isfinite

import horovod.torch as hvd
import numpy as np
import torch
from torch import Tensor

from hvd_imagenet.checkpoint import Checkpoint
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
    save_checkpoint,
)
from hvd_imagenet.data.reader import Batch
from hvd_imagenet.errors import Preempted
from hvd_imagenet.heartbeat import beat
from hvd_imagenet.job import in_job
from hvd_imagenet.nonfinite import refuse_nonfinite
from hvd_imagenet.preemption import Signals, WatchedReader
from hvd_imagenet.progress import Progress
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import Session, config_of, prepare
from hvd_imagenet.torch.batch_norm import average_over_processes, running_averages
from hvd_imagenet.torch.beginning import begin_network
from hvd_imagenet.torch.communication import broadcast
from hvd_imagenet.torch.ema import ModelEma
from hvd_imagenet.torch.evaluation import evaluate, sums_of_batch, to_device
from hvd_imagenet.torch.nonfinite import AveragesBefore, all_finite, passes_concerned
from hvd_imagenet.torch.optimizer import DistributedOptimizer, clip_gradients
from hvd_imagenet.torch.optimizers import optimizer_of
from hvd_imagenet.torch.session import choose_device, join_job, set_backends
from hvd_imagenet.torch.state import checkpoint_tensors, load_into, model_tensors, momentum_buffers, versions
from hvd_imagenet.training_run import NOTES

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
        device: that this process computes on.
        signals: that tell the run to leave; none do if None.
    """

    def __init__(
        self, recipe: Recipe, config: RunConfig, session: Session, device: torch.device, signals: Signals | None = None
    ) -> None:
        self.recipe, self.config, self.session, self.device = recipe, config, session, device
        communicator = session.communicator
        images = len(session.train)
        self.network = begin_network(recipe, config, session, self.device)
        self.model = self.network.model
        self.optimizer = DistributedOptimizer(
            optimizer_of(recipe, self.model),
            self.model.named_parameters(),
            recipe.workers,
            schedule=recipe.learning_rate,
            images=images,
            passes=-(-len(session.workers) // config.workers_per_pass),
            compression=_COMPRESSIONS[config.compression],
        )
        self.ema = None if recipe.model_ema_decay is None else ModelEma(self.model, recipe.model_ema_decay)
        self.run_state = begin(recipe, config, session, self._log, signals)
        self._resume()
        self.progress = Progress(
            shown=communicator.rank == 0,
            bar=config.progress_bar and not self.run_state.finished,
            iterations=self.run_state.stop_at,
            done=self.run_state.iteration,
            minibatch=recipe.minibatch,
        )
        self.compute = torch.compile(self.network) if config.torchcompile else self.network
        self._averages_before = AveragesBefore(running_averages(self.model)) if config.skip_nonfinite else None
        self._saved_at = self.run_state.iteration
        self._lr = recipe.learning_rate(recipe.workers.progress_epochs(max(self.run_state.iteration - 1, 0), images))
        reader = open_reader(session.validation, recipe.centre_crop, recipe, config)
        self._validation_reader = WatchedReader(reader, len(session.validation), self.run_state.signals, communicator)

    def _log(self, line: str) -> None:
        self.progress.line(line)

    def _resume(self) -> None:
        """Rank 0 loads the checkpoint, and gives everyone the weights, the optimizer's state and the position."""
        session, state = self.session, self.run_state
        communicator = session.communicator

        def load() -> Checkpoint | None:
            if session.checkpoint is not None:
                what = f"checkpoint {session.resumed}"
                load_into(session.checkpoint.tensors, self.model, self.optimizer, self.ema, what)
            return session.checkpoint

        resumed = go_on(state, together(communicator, load), communicator)
        self.optimizer.iteration = state.iteration
        broadcast(self.model, self.optimizer if resumed else None)
        if self.ema is not None:
            hvd.broadcast_parameters(self.ema.tensors, root_rank=0)
        if communicator.rank == 0 and not state.finished:
            state.open_folder(session.out, config_of(self.recipe, self.config))

    def run(self) -> None:
        """Trains to the end or until a signal comes, or says that there is nothing left to do.

        Raises:
            AgreedError: a mistake of the user, on all processes.
            Preempted: a signal has ended the run, which is saved; on all processes.
        """
        state, session = self.run_state, self.session
        if state.finished:
            self._log(already_finished(state, session, self.config))
            self.progress.close()
            return
        self._log(headline(self.recipe, session, state, self.device.type))
        try:
            agree_to_begin(state, session.communicator)
            self._train()
        except Preempted:
            if self._saved_at != state.iteration:
                self._save()
            self.progress.close()
            leave(state, session, self.config)
            raise
        self.progress.close()
        finish(state, session, self.config)

    def _train(self) -> None:
        state = self.run_state
        state.clock.restart()
        if state.validation_due:  # a signal came in its midst
            self._end_epochs(state.rows_due())
            self._save()
        with closing(iterations(state, self.config, self.session)) as taken:
            for batches in taken:
                self.iterate(batches)
                rows = state.rows_due()
                if rows:
                    self._end_epochs(rows)
                if not state.finished:
                    state.signals.stop_if_agreed()
                interval = self.config.checkpoint_interval
                due = state.timer.agreed or (interval and state.iteration % interval == 0)
                if rows or state.finished or due:
                    self._save()

    def iterate(self, batches: list[Batch]) -> None:
        """One step, or none where the loss or the gradient is no finite number.

        Args:
            batches: pixels and labels of this process's virtual workers, workers_per_pass of them in each.
        """
        state, communicator = self.run_state, self.session.communicator
        t = state.iteration
        if self._averages_before is not None:
            self._averages_before.note()
        losses, handle, reduced = self._accumulate(batches)
        beat("reducing gradients", t)
        self.optimizer.synchronize()
        hvd.synchronize(handle)
        totals, notes = Sums(*reduced[:-NOTES].tolist()), reduced[-NOTES:].tolist()
        beat("updating", t)  # else a rank that hangs from here on would seem to wait for the others
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        # Of a reduced sum all processes see the same, so that they decide alike.
        if isfinite(totals.loss) and all_finite(gradients):
            if self.recipe.clip_grad is not None:
                clip_gradients(self.model.parameters(), self.recipe.clip_grad)
            self.optimizer.step()
            if self.ema is not None:
                self.ema.update()
        else:
            self._pass_over(batches, losses)
        self._lr = self.optimizer.param_groups[0]["lr"]
        state.heed(t, notes, communicator)
        state.record(t, self._lr, totals)
        self.progress.iteration(t, self._lr, totals.mean_loss)
        state.iteration += 1

    def _accumulate(self, batches: list[Batch]) -> tuple[list[Tensor], int, Tensor]:
        """Backprop of all passes; their losses, and a handle of the sums and notes, reduced during the last one."""
        state = self.run_state
        beat("computing", state.iteration)
        sums = torch.zeros(4 + NOTES, dtype=torch.float64)
        sums[4:] = torch.from_numpy(np.array(state.notes(self.session.communicator.rank)))
        sums = sums.to(self.device)
        losses = []
        self.optimizer.zero_grad(set_to_none=True)
        for number in range(len(batches)):
            loss, of_batch = self._loss_of(batches[number])
            losses.append(of_batch[1])
            sums[:4] += of_batch
            if number == len(batches) - 1:
                # One name in two iterations: a rank that has left out a collective cannot go on as if it had not.
                handle = hvd.allreduce_async_(sums, op=hvd.Sum, name=f"hvd_imagenet.metrics.{state.iteration % 2}")
            (loss / self.recipe.per_worker).backward()
        return losses, handle, sums

    def _loss_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        pixels, labels = (to_device(each, self.device) for each in batch)
        return sums_of_batch(self.compute(pixels), labels, self.recipe.label_smoothing)

    def _pass_over(self, batches: list[Batch], losses: list[Tensor]) -> None:
        """Makes no update, if the user allows it."""
        state, session = self.run_state, self.session
        parameters = [weight for weight in self.model.parameters() if weight.requires_grad]
        concerned = passes_concerned(losses, lambda number: self._loss_of(batches[number])[0], parameters)
        images = image_names(session, self.recipe, self.config, state.iteration, concerned)
        self._log(state.nonfinite.meet(state.iteration, images, session.communicator, state.folder))
        if self._averages_before is not None:
            self._averages_before.restore()
        self.optimizer.skip_step()

    def _average_batch_norm(self) -> None:
        share = len(self.session.workers) / self.recipe.workers.workers
        averages = running_averages(self.model)
        if self.ema is not None:
            averages |= {f"ema.{name}": tensor for name, tensor in self.ema.averages.items()}
        average_over_processes(averages, share, self.session.communicator)

    def _end_epochs(self, rows: list[int]) -> None:
        state, communicator = self.run_state, self.session.communicator
        state.validation_due = True
        beat("validating", state.iteration - 1)
        if state.folder is not None:
            state.folder.flush()
        speed, wait_percent = state.speed(communicator)
        self._average_batch_norm()
        if self.ema is not None:
            self.ema.swap()
        try:
            images = len(self.session.validation)
            validation = evaluate(self.network, self._validation_reader, images, communicator)
        finally:
            if self.ema is not None:
                self.ema.swap()
        state.end_epochs(rows, self._lr, speed, validation, wait_percent)

    def _save(self) -> None:
        with self.run_state.clock.paused():
            self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        state = self.run_state
        beat("saving a checkpoint", state.iteration - 1)
        self._saved_at = state.iteration
        state.timer.restart()
        self._average_batch_norm()
        saved = [*model_tensors(self.model).values(), *momentum_buffers(self.model, self.optimizer).values()]
        saved += [] if self.ema is None else self.ema.tensors.values()
        refuse_nonfinite(all_finite(saved), state.iteration)
        save_checkpoint(state, self.session.out, self.session.communicator, self._checkpoint)

    def _checkpoint(self) -> Checkpoint:
        state = self.run_state
        manifest = state.manifest(self._lr, self.session.data_fingerprint, self.config.framework, versions())
        return Checkpoint(state.iteration, checkpoint_tensors(self.model, self.optimizer, self.ema), manifest)
