"""Everything before the first iteration: the job, the data, the run folder, the checkpoint to go on from."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import horovod.torch as hvd
import torch

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.communicator import Communicator, together
from hvd_imagenet.data.listing import Listing, fingerprint, list_dataset
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import Recipe, named, scaled_decay_epochs
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


def join_job(launched_size: int | None = None) -> HorovodCommunicator:
    """Joins the job, or makes one of this process alone; a later exception ends all of it.

    Args:
        launched_size: how many processes the launcher says that it has started; None if there was none.

    Returns:
        The job's communicator.

    Raises:
        UserError: Horovod has found another number of processes; they would all train by themselves.

    Example:
        >>> import sys
        >>> hook = sys.excepthook
        >>> join_job().size >= 1
        True
        >>> sys.excepthook = hook
    """
    hvd.init()
    abort_job_on_exception()
    if launched_size is not None and launched_size != hvd.size():
        raise UserError(
            f"the launcher has started {launched_size} processes, but Horovod has joined {hvd.size()} of them; "
            f"start them with hvd-imagenet launch, the mpirun of this environment, or srun --mpi=pmix"
        )
    return HorovodCommunicator()


def choose_device(local_rank: int) -> torch.device:
    """The GPU of this process's local rank where there are GPUs, else the CPU.

    Args:
        local_rank: among the processes of this host.

    Returns:
        The device, which is now the current one.

    Raises:
        UserError: there are GPUs, but fewer than processes on this host, or Horovod was built without CUDA.

    Example:
        >>> choose_device(0).type in ("cpu", "cuda")
        True
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if not hvd.cuda_built():
        raise UserError(
            "this host has a GPU, but Horovod was built without CUDA; build it again with "
            "HOROVOD_GPU_OPERATIONS=NCCL hvd-imagenet install-horovod, or use the CPU with CUDA_VISIBLE_DEVICES="
        )
    count = torch.cuda.device_count()
    # Slurm's --gpus-per-task shows each process its own GPU alone.
    index = 0 if count == 1 and os.environ.get("CUDA_VISIBLE_DEVICES") else local_rank
    if index >= count:
        raise UserError(
            f"local rank {local_rank} has no GPU: this host has {count}; start {count} processes a host at most, "
            f"or use the CPU with CUDA_VISIBLE_DEVICES="
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


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
    agree(communicator, f"--data {config.data}", data_fingerprint, fingerprint(validation))

    def open_run() -> tuple[Path | None, Path | None, Checkpoint | None]:
        return _open_run(recipe, config, data_fingerprint) if communicator.rank == 0 else (None, None, None)

    out, resumed, checkpoint = together(communicator, open_run)
    out, resumed = communicator.gather((out, resumed))[0]
    return Session(communicator, device, train, validation, data_fingerprint, workers, out, resumed, checkpoint)


def agree(communicator: Communicator, what: str, *seen: str) -> None:
    """Makes sure that all processes see the same; call it on all of them together.

    Args:
        communicator: the job's.
        what: is looked at, for the message.
        seen: what stands for it on this process.

    Raises:
        AgreedError: a process sees something else than rank 0.

    Example:
        >>> from hvd_imagenet.communicator import SingleProcess
        >>> agree(SingleProcess(), "--data digits", "fingerprint")
    """
    of_all = communicator.gather(seen)

    def compare() -> None:
        if of_all[communicator.rank] != of_all[0]:
            host = os.uname().nodename
            raise UserError(
                f"{what}: rank {communicator.rank} on {host} sees other files than rank 0; give all hosts the same"
            )

    together(communicator, compare)


def _open_run(recipe: Recipe, config: RunConfig, data_fingerprint: str) -> tuple[Path, Path | None, Checkpoint | None]:
    resumed, checkpoint = choose_checkpoint(config), None
    if resumed is not None:
        check_same_run(resumed, checkpoints.read_manifest(resumed), recipe, data_fingerprint)
        checkpoint = checkpoints.load(resumed)
    if config.out is None:
        return new_run_folder(Path("runs"), config.recipe_name), resumed, checkpoint
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "config.yaml").touch()
    except OSError as error:
        raise UserError(f"--out {config.out}: cannot be written ({error.strerror}); choose another folder") from error
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
    left_out = ("out", "resume", "progress_bar", "recipe_name", "launched_size")
    options = {k: v for k, v in dataclasses.asdict(config).items() if k not in left_out}
    fields = {"recipe": config.recipe_name, "framework": "torch", **dataclasses.asdict(recipe), **options}
    # Decays that follow from the length are left out, so that another --epochs moves them.
    if recipe.decay_epochs == scaled_decay_epochs(named(config.recipe_name), recipe.epochs):
        del fields["decay_epochs"]
    # Options leave out the unit that fields have in their names: --image-size, image_size_px.
    return {name.removesuffix("_px"): _plain(value) for name, value in fields.items()}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
