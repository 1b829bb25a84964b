"""What both trainers do alike from a run's first line to its last: read, say, save, finish."""

from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np

from hvd_imagenet.bad_images import allowed_bad_images
from hvd_imagenet.checkpoint import BackgroundWriter, Checkpoint
from hvd_imagenet.checkpoint_timer import CheckpointTimer
from hvd_imagenet.communicator import Communicator, together
from hvd_imagenet.core.sharding import Stream
from hvd_imagenet.data.images import Images
from hvd_imagenet.data.reader import Batch, Reader, Substitution, default_threads
from hvd_imagenet.data.synthetic import SyntheticImages, SyntheticReader
from hvd_imagenet.data.transforms import Augmentation, CentreCrop
from hvd_imagenet.heartbeat import beat
from hvd_imagenet.preemption import Signals, requeue
from hvd_imagenet.progress import own_command
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.run_folder import SUMMARY
from hvd_imagenet.session import Session, config_of
from hvd_imagenet.training_run import TrainingRun


def begin(
    recipe: Recipe, config: RunConfig, session: Session, log: Callable[[str], None], signals: Signals | None = None
) -> TrainingRun:
    """A run at its beginning.

    Args:
        recipe: of the run.
        config: of the run.
        session: of the run.
        log: shows a line to the user; does nothing on other ranks.
        signals: that tell the run to leave; none do if None.

    Returns:
        Where it stands, without a run folder.
    """
    images = len(session.train)
    total = recipe.workers.iterations(images, recipe.epochs)
    run = TrainingRun(recipe, images, None, min(total, config.max_iterations or total), log)
    run.bad_images.allowed = allowed_bad_images(config.bad_images)
    run.nonfinite.allowed = config.skip_nonfinite
    run.timer = CheckpointTimer(config.checkpoint_minutes)
    run.writer = BackgroundWriter(config.checkpoint_hist)
    run.signals = signals or run.signals
    run.threads = None if config.synthetic else config.threads or default_threads()
    run.classes = session.train.classes
    return run


def open_reader(
    images: Images,
    crop: Augmentation | CentreCrop,
    recipe: Recipe,
    config: RunConfig,
    prefetch_batches: int = 2,
    substitution: Substitution | None = None,
) -> Reader:
    """A reader of a run's training or validation images.

    Args:
        images: of the session.
        crop: the recipe's augmentation or centre_crop.
        recipe: its image size and seed.
        config: its threads.
        prefetch_batches: as Reader has it.
        substitution: likewise.

    Returns:
        A SyntheticReader if the images are synthetic.
    """
    if isinstance(images, SyntheticImages):
        return SyntheticReader(images, recipe.image_size_px, recipe.seed)
    return Reader(
        images, crop, recipe.image_size_px, recipe.seed, config.threads, prefetch_batches, substitution
    )  # fmt: skip


def iterations(run: TrainingRun, config: RunConfig, session: Session) -> Generator[list[Batch], None, None]:
    """The batches of one iteration after another; each holds the images of workers_per_pass virtual workers.

    The time that passes while they are waited for goes to the run's clock, and images that cannot be read to its
    bad_images. Close it in the end: its threads live as long as it does.

    Args:
        run: at the iteration to begin with.
        config: of the run.
        session: whose training images, and which of the virtual workers.

    Yields:
        A list of batches: pixels uint8 (workers · n, size, size, 3) and labels int64 (workers · n,).
    """
    recipe, workers, bad = run.recipe, session.workers, run.bad_images
    stream = Stream(len(session.train), recipe.workers, recipe.seed)
    starts = range(0, len(workers), config.workers_per_pass)
    passes = [workers[start : start + config.workers_per_pass] for start in starts]
    substitution = Substitution(recipe.per_worker, bad.see) if bad.allowed else None
    reader = open_reader(session.train, recipe.augmentation, recipe, config, 2 + len(passes), substitution)
    span = range(run.iteration, run.stop_at)
    batches = reader.batches(stream.block(t, block) for t in span for block in passes)
    try:
        for t in span:
            beat("reading images", t)
            with run.clock.waiting():
                taken = [next(batches) for _ in passes]
            yield taken
    finally:
        batches.close()


def go_on(run: TrainingRun, checkpoint: Checkpoint | None, communicator: Communicator) -> bool:
    """Puts a run behind the checkpoint that rank 0 has read; call it on all processes together.

    Args:
        run: at its beginning; changed in place.
        checkpoint: of rank 0, or None where there is none; not looked at on other ranks.
        communicator: the job's.

    Returns:
        Whether there is a checkpoint.
    """
    position = None if checkpoint is None else (checkpoint.iteration, checkpoint.manifest)
    position = communicator.gather(position)[0]
    if position is not None:
        run.resume(Checkpoint(position[0], {}, position[1]))
    return position is not None


def headline(recipe: Recipe, session: Session, run: TrainingRun, device: str) -> str:
    """What is said of a run before its first iteration.

    Args:
        recipe: of the run.
        session: of the run.
        run: where it stands.
        device: cpu, cuda, ….

    Returns:
        Two lines.
    """
    resumed = f", going on at iteration {run.iteration}" if session.resumed else ""
    return (
        f"{recipe.model}: minibatch {recipe.minibatch} = {recipe.workers.workers} workers of {recipe.per_worker}, "
        f"on {session.communicator.size} processes ({device}); {len(session.train):,} training and "
        f"{len(session.validation):,} validation images; {run.stop_at} iterations{resumed}\n"
        f"run folder {session.out}"
    )


def save_checkpoint(
    run: TrainingRun, out: Path, communicator: Communicator, checkpoint: Callable[[], Checkpoint]
) -> None:
    """Begins to write a checkpoint beside the training; call it on all processes together.

    Args:
        run: whose state is saved.
        out: its folder.
        communicator: the job's.
        checkpoint: makes a copy of the state; called on rank 0 alone.

    Raises:
        AgreedError: the checkpoint before this one could not be written; on all processes.
    """

    def begin_to_write() -> None:
        if run.folder is not None:
            run.folder.flush()
            # When power fails there must be no checkpoint whose rows are not on the disk.
            run.writer.write(out, checkpoint(), before=run.folder.sync)

    together(communicator, begin_to_write)


def image_names(session: Session, recipe: Recipe, config: RunConfig, iteration: int, passes: list[int]) -> list[str]:
    """The names of the images that this process takes in some of its passes.

    Args:
        session: its training images and virtual workers.
        recipe: its minibatch and seed.
        config: its workers_per_pass.
        iteration: t.
        passes: their numbers.

    Returns:
        Names in the order of the stream.
    """
    stream, size = Stream(len(session.train), recipe.workers, recipe.seed), config.workers_per_pass
    blocks = [session.workers[number * size : (number + 1) * size] for number in passes]
    return [session.train.name(image) for block in blocks for image in stream.block(iteration, block)[1].tolist()]


def agree_to_begin(run: TrainingRun, communicator: Communicator) -> None:
    """Stops a run that was told to leave while it started; call it on all processes together.

    Args:
        run: before its first iteration.
        communicator: the job's.

    Raises:
        Preempted: a signal has come to one of them; on all.
    """
    run.signals.agree(communicator.sum(np.array(run.signals.of_this_process())).tolist())
    run.signals.stop_if_agreed()


def leave(run: TrainingRun, session: Session, config: RunConfig) -> None:
    """Says that a run was told to leave and where it goes on; call it on all processes together, after saving.

    Args:
        run: whose signals are agreed on.
        session: of the run.
        config: of the run.

    Raises:
        AgreedError: the checkpoint could not be written; on all processes.
    """
    together(session.communicator, run.writer.wait)
    communicator, name = session.communicator, run.signals.agreed.name if run.signals.agreed else ""
    if communicator.rank == 0:
        # SIGTERM is what scancel sends too: such a job must not come back.
        requeued = f"; {requeue()}" if config.requeue and name == "SIGUSR1" else ""
        run.log(
            f"{name}: stopped after {run.iteration} iterations, all of them saved; "
            f"go on with --out {session.out}{requeued}"
        )
    communicator.sum(np.zeros(1))  # a launcher ends the others as soon as one has left


def already_finished(run: TrainingRun, session: Session, config: RunConfig) -> str:
    """Completes a run that has no iteration left: it may have ended between its last checkpoint and its summary.

    Args:
        run: with no iteration left.
        session: of the run.
        config: of the run.

    Returns:
        What is said of it.
    """
    if session.communicator.rank == 0 and not (session.out / SUMMARY).exists():
        # The row of an epoch that was not finished is its last: it counts as one more.
        run.epochs_done += 1
        run.open_folder(session.out, config_of(run.recipe, config))
        assert run.folder is not None
        run.folder.close(run.summary(session.communicator.size, config.framework))
    return f"{session.out} is finished: {run.iteration} iterations are done, {run.stop_at} are wanted"


def finish(run: TrainingRun, session: Session, config: RunConfig) -> None:
    """Writes the summary and says what the run came to; call it on all processes together.

    Args:
        run: after its last iteration.
        session: of the run.
        config: of the run.

    Raises:
        AgreedError: the last checkpoint could not be written; on all processes.
    """
    together(session.communicator, run.writer.wait)
    beat("finishing")
    if run.folder is None:
        return
    summary = run.summary(session.communicator.size, config.framework)
    run.folder.close(summary)
    error = summary["val_error_final"]
    print(f"validation error {error:.2f} % after {run.iteration} iterations; everything is in {session.out}")
    if config.data is not None:
        print(f"next: {own_command()} evaluate --checkpoint {session.out} --data {config.data}", flush=True)
