"""Everything before the first iteration: the job, the data, the run folder, the checkpoint to go on from."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import horovod.torch as hvd
import torch

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.communicator import Communicator, together
from hvd_imagenet.data.listing import Listing, fingerprint, list_dataset
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.run_folder import new_run_folder
from hvd_imagenet.torch.communication import HorovodCommunicator, abort_job_on_exception
from hvd_imagenet.training_run import check_same_run, choose_checkpoint


@dataclass(frozen=True)
class Session:
    """What the job agreed on before the first iteration.

    Args:
        communicator: the job's.
        device: that this process computes on.
        train: the training images.
        validation: the validation images.
        data_fingerprint: of the training images.
        workers: the virtual workers that this process runs.
        out: the run folder, the same path on all processes.
        resumed: the folder of the checkpoint to go on from, the same on all processes, or None.
        checkpoint: its contents; rank 0 only.
    """

    communicator: Communicator
    device: torch.device
    train: Listing
    validation: Listing
    data_fingerprint: str
    workers: range
    out: Path
    resumed: Path | None
    checkpoint: Checkpoint | None


def join_job() -> HorovodCommunicator:
    """Joins the job, or makes one of this process alone; a later exception ends all of it.

    Example:
        >>> import sys
        >>> hook = sys.excepthook
        >>> join_job().size >= 1
        True
        >>> sys.excepthook = hook
    """
    hvd.init()
    abort_job_on_exception()
    return HorovodCommunicator()


def choose_device(local_rank: int) -> torch.device:
    """The GPU of this process's local rank where there are GPUs, else the CPU.

    Args:
        local_rank: among the processes of this host.

    Returns:
        The device, which is now the current one.

    Raises:
        UserError: there are GPUs, but fewer than processes on this host.

    Example:
        >>> choose_device(0).type in ("cpu", "cuda")
        True
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise UserError(
            f"local rank {local_rank} has no GPU: this host has {count}; start {count} processes a host at most"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def prepare(recipe: Recipe, config: RunConfig, communicator: Communicator) -> Session:
    """Lists the data, makes or finds the run folder, reads the checkpoint; call it on all processes together.

    Args:
        recipe: of the run.
        config: of the run.
        communicator: the job's.

    Returns:
        What was agreed on.

    Raises:
        AgreedError: a mistake of the user on any process; on all of them.
    """

    def local() -> tuple[torch.device, Listing, Listing, str, range]:
        device = choose_device(communicator.local_rank)
        train, validation = list_dataset(config.data)
        try:
            workers = recipe.workers.placement(communicator.size)[communicator.rank]
        except ValueError as error:
            raise UserError(str(error)) from error
        return device, train, validation, fingerprint(train), workers

    device, train, validation, data_fingerprint, workers = together(communicator, local)
    fingerprints = communicator.gather(data_fingerprint)

    def agree_on_data() -> None:
        if fingerprints[communicator.rank] != fingerprints[0]:
            raise UserError(
                f"--data {config.data}: rank {communicator.rank} sees other training images than rank 0 "
                f"({len(train)} here); give all hosts the same files"
            )

    together(communicator, agree_on_data)

    def open_run() -> tuple[Path | None, Path | None, Checkpoint | None]:
        return _open_run(recipe, config, data_fingerprint) if communicator.rank == 0 else (None, None, None)

    out, resumed, checkpoint = together(communicator, open_run)
    out, resumed = communicator.gather((out, resumed))[0]
    return Session(communicator, device, train, validation, data_fingerprint, workers, out, resumed, checkpoint)


def _open_run(recipe: Recipe, config: RunConfig, data_fingerprint: str) -> tuple[Path, Path | None, Checkpoint | None]:
    resumed, checkpoint = choose_checkpoint(config), None
    if resumed is not None:
        check_same_run(resumed, checkpoints.read_manifest(resumed), recipe, data_fingerprint)
        checkpoint = checkpoints.load(resumed)
    if config.out is None:
        return new_run_folder(Path("runs"), config.recipe_name), resumed, checkpoint
    try:
        config.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {config.out}: cannot be made ({error.strerror}); choose another folder") from error
    return config.out, resumed, checkpoint


def config_of(recipe: Recipe, config: RunConfig) -> dict[str, object]:
    """What config.yaml holds: every option by its name, so that `train -c config.yaml` repeats the run.

    Args:
        recipe: of the run.
        config: of the run.

    Returns:
        Plain data.

    Example:
        >>> config_of(Recipe(), RunConfig(Path("d"), recipe_name="resnet50_1hour"))["minibatch"]
        8192
    """
    left_out = ("out", "resume", "progress_bar", "recipe_name")
    options = {k: v for k, v in dataclasses.asdict(config).items() if k not in left_out}
    fields = {"recipe": config.recipe_name, "framework": "torch", **dataclasses.asdict(recipe), **options}
    # Options leave out the unit that fields have in their names: --image-size, image_size_px.
    return {name.removesuffix("_px"): _plain(value) for name, value in fields.items()}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
