"""The training loop."""

from contextlib import closing

import horovod.torch as hvd
import torch
from torch import Tensor

from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.communicator import together
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.course import (
    already_finished,
    begin,
    finish,
    go_on,
    headline,
    iterations,
    open_reader,
    save_checkpoint,
)
from hvd_imagenet.data.reader import Batch
from hvd_imagenet.job import in_job
from hvd_imagenet.progress import Progress
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import Session, config_of, prepare
from hvd_imagenet.torch.batch_norm import average_over_processes, running_averages
from hvd_imagenet.torch.communication import broadcast
from hvd_imagenet.torch.ema import ModelEma
from hvd_imagenet.torch.evaluation import evaluate, sums_of_batch, to_device
from hvd_imagenet.torch.network import build_network
from hvd_imagenet.torch.optimizer import DistributedOptimizer, clip_gradients, parameter_groups
from hvd_imagenet.torch.session import choose_device, join_job
from hvd_imagenet.torch.state import checkpoint_tensors, load_into, versions

_COMPRESSIONS = {"none": hvd.Compression.none, "fp16": hvd.Compression.fp16}


def train(recipe: Recipe, config: RunConfig) -> None:
    """Runs a recipe; every process of the job calls it.

    Args:
        recipe: the science.
        config: the rest.

    Raises:
        AgreedError: a mistake of the user, on all processes.
    """
    communicator = join_job(config.launched_size)

    def run() -> None:
        device = together(communicator, lambda: choose_device(communicator.local_rank))
        Trainer(recipe, config, prepare(recipe, config, communicator), device).run()

    in_job(communicator, hvd.shutdown, run)


class Trainer:
    """One run on this process.

    Args:
        recipe: the science.
        config: the rest.
        session: what the job agreed on.
        device: that this process computes on.
    """

    def __init__(self, recipe: Recipe, config: RunConfig, session: Session, device: torch.device) -> None:
        self.recipe, self.config, self.session, self.device = recipe, config, session, device
        classes, images = len(session.train.classes), len(session.train)
        self.network = build_network(recipe, config, classes, len(session.workers), self.device)
        self.model = self.network.model
        inner = torch.optim.SGD(
            parameter_groups(self.model, recipe.weight_decay),
            lr=recipe.reference_lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
        )
        self.optimizer = DistributedOptimizer(
            inner,
            self.model.named_parameters(),
            recipe.workers,
            schedule=recipe.learning_rate,
            images=images,
            passes=-(-len(session.workers) // config.workers_per_pass),
            compression=_COMPRESSIONS[config.compression],
        )
        self.ema = None if recipe.model_ema_decay is None else ModelEma(self.model, recipe.model_ema_decay)
        self.run_state = begin(recipe, config, session, self._log)
        self._resume()
        self.progress = Progress(
            shown=session.communicator.rank == 0,
            bar=config.progress_bar and not self.finished,
            iterations=self.run_state.stop_at,
            done=self.run_state.iteration,
            minibatch=recipe.minibatch,
        )
        self.compute = torch.compile(self.network) if config.torchcompile else self.network
        self._pending: tuple[int, float, Tensor, int] | None = None
        self._lr = recipe.learning_rate(recipe.workers.progress_epochs(max(self.run_state.iteration - 1, 0), images))
        self._validation_reader = open_reader(session.validation, recipe.centre_crop, recipe, config)

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
        if communicator.rank == 0 and not self.finished:
            state.open_folder(session.out, config_of(self.recipe, self.config))

    @property
    def finished(self) -> bool:
        """Whether there is no iteration left."""
        return self.run_state.iteration >= self.run_state.stop_at

    def run(self) -> None:
        """Trains to the end, or says that there is nothing left to do."""
        state, session = self.run_state, self.session
        if self.finished:
            self._log(already_finished(state, session, self.config))
            self.progress.close()
            return
        self._log(headline(self.recipe, session, state, self.device.type))
        state.clock.restart()
        with closing(iterations(state, self.config, session)) as taken:
            for batches in taken:
                self.iterate(batches)
                rows = state.rows_due()
                if rows:
                    self._end_epochs(rows)
                interval = self.config.checkpoint_interval
                if rows or self.finished or (interval and state.iteration % interval == 0):
                    self._save()
        self.progress.close()
        finish(state, session, self.config)

    def iterate(self, batches: list[Batch]) -> None:
        """One step.

        Args:
            batches: pixels and labels of this process's virtual workers, workers_per_pass of them in each.
        """
        recipe, device, state = self.recipe, self.device, self.run_state
        # The fields of Sums, and how many images could not be read that this process had not met before.
        sums = torch.zeros(5, dtype=torch.float64, device=device)
        sums[4] = state.bad_images.take(state.iteration)
        self.optimizer.zero_grad(set_to_none=True)
        for pixels, labels in batches:
            logits = self.compute(to_device(pixels, device))
            loss, of_batch = sums_of_batch(logits, to_device(labels, device), recipe.label_smoothing)
            (loss / recipe.per_worker).backward()
            sums[:4] += of_batch
        # Reduced while the next iteration computes, so that reporting costs no waiting; two may be under way at once.
        handle = hvd.allreduce_async_(sums, op=hvd.Sum, name=f"hvd_imagenet.metrics.{state.iteration % 2}")
        if recipe.clip_grad is not None:
            self.optimizer.synchronize()
            clip_gradients(self.model.parameters(), recipe.clip_grad)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()
        self._report()
        self._lr = self.optimizer.param_groups[0]["lr"]
        self._pending = (state.iteration, self._lr, sums, handle)
        state.iteration += 1

    def _report(self) -> None:
        """Records the iteration whose sums are under way, if there is one."""
        if self._pending is None:
            return
        iteration, lr, sums, handle = self._pending
        self._pending = None
        hvd.synchronize(handle)
        *values, bad_images = sums.tolist()
        totals = Sums(*values)
        self.run_state.record_bad_images(iteration, bad_images, self.session.communicator)
        self.run_state.record(iteration, lr, totals)
        self.progress.iteration(iteration, lr, totals.mean_loss)

    def _average_batch_norm(self) -> None:
        share = len(self.session.workers) / self.recipe.workers.workers
        averages = running_averages(self.model)
        if self.ema is not None:
            averages |= {f"ema.{name}": tensor for name, tensor in self.ema.averages.items()}
        average_over_processes(averages, share, self.session.communicator)

    def _end_epochs(self, rows: list[int]) -> None:
        self._report()
        if self.run_state.folder is not None:
            self.run_state.folder.flush()
        speed, wait_percent = self.run_state.speed(self.session.communicator)
        self._average_batch_norm()
        if self.ema is not None:
            self.ema.swap()
        images = len(self.session.validation)
        validation = evaluate(self.network, self._validation_reader, images, self.session.communicator)
        if self.ema is not None:
            self.ema.swap()
        self.run_state.end_epochs(rows, self._lr, speed, validation, wait_percent)

    def _save(self) -> None:
        self._report()
        with self.run_state.clock.paused():
            self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        self._average_batch_norm()
        state = self.run_state
        if state.folder is not None:
            state.folder.flush()
            manifest = state.manifest(self._lr, self.session.data_fingerprint, self.config.framework, versions())
            tensors = checkpoint_tensors(self.model, self.optimizer, self.ema)
            save_checkpoint(self.session.out, Checkpoint(state.iteration, tensors, manifest))
