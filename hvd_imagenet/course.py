"""What both trainers do alike from a run's first line to its last: read, say, save, finish."""

from collections.abc import Iterator
from pathlib import Path

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.communicator import Communicator
from hvd_imagenet.core.sharding import Stream
from hvd_imagenet.data.reader import Batch, Reader
from hvd_imagenet.errors import UserError
from hvd_imagenet.progress import own_command
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.run_folder import SUMMARY, RunFolder
from hvd_imagenet.session import Session, config_of
from hvd_imagenet.training_run import TrainingRun


def iterations(recipe: Recipe, config: RunConfig, session: Session, span: range) -> Iterator[list[Batch]]:
    """The batches of one iteration after another; each holds the images of workers_per_pass virtual workers.

    Args:
        recipe: of the run.
        config: of the run.
        session: whose training images, and which of the virtual workers.
        span: of iterations.

    Yields:
        A list of batches: pixels uint8 (workers · n, size, size, 3) and labels int64 (workers · n,).
    """
    workers = session.workers
    stream = Stream(len(session.train), recipe.workers, recipe.seed)
    starts = range(0, len(workers), config.workers_per_pass)
    passes = [workers[start : start + config.workers_per_pass] for start in starts]
    reader = Reader(
        session.train, recipe.augmentation, recipe.image_size_px, recipe.seed, config.threads,
        prefetch_batches=2 + len(passes),
    )  # fmt: skip
    batches = reader.batches(stream.block(t, block) for t in span for block in passes)
    try:
        for _ in span:
            yield [next(batches) for _ in passes]
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


def save_checkpoint(out: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint into a run folder.

    Args:
        out: the run folder.
        checkpoint: what to write.

    Raises:
        UserError: it cannot be written.
    """
    try:
        checkpoints.save(out, checkpoint)
    except OSError as error:
        raise UserError(
            f"checkpoint in {out}: cannot be written ({error.strerror}); make room and start again"
        ) from error


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
        run.folder = RunFolder(session.out, config_of(run.recipe, config), run.iteration, run.epochs_done + 1)
        run.folder.close(run.summary(session.communicator.size, config.framework))
    return f"{session.out} is finished: {run.iteration} iterations are done, {run.stop_at} are wanted"


def finish(run: TrainingRun, session: Session, config: RunConfig) -> None:
    """Writes the summary and says what the run came to; does nothing on ranks without a run folder.

    Args:
        run: after its last iteration.
        session: of the run.
        config: of the run.
    """
    if run.folder is None:
        return
    summary = run.summary(session.communicator.size, config.framework)
    run.folder.close(summary)
    error = summary["val_error_final"]
    print(f"validation error {error:.2f} % after {run.iteration} iterations; everything is in {session.out}")
    print(f"next: {own_command()} evaluate --checkpoint {session.out} --data {config.data}", flush=True)
