"""Before the first iteration, in both frameworks: the data, the run folder, the checkpoint to go on from."""

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hvd_imagenet.checkpoint import Checkpoint, Found
from hvd_imagenet.communicator import Communicator, Result, together
from hvd_imagenet.data.images import Images
from hvd_imagenet.data.jpeg import CHOICE, decoder_name
from hvd_imagenet.data.listing import list_dataset
from hvd_imagenet.data.synthetic import synthetic_dataset
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import Recipe, named, scaled_decay_epochs
from hvd_imagenet.resuming import check_same_run, choose_checkpoint
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.run_folder import new_run_folder

# Where the data lies and how many cores there are may differ from host to host.
_OWN_OF_A_PROCESS = ("data", "train_list", "threads")


@dataclass(frozen=True)
class Session:
    """What the job agreed on before the first iteration.

    Args:
        communicator: the job's.
        train: the training images.
        validation: the validation images.
        data_fingerprint: of the training images.
        workers: the virtual workers that this process runs.
        out: the run folder, the same path on all processes.
        resumed: the folder of the checkpoint to go on from, the same on all processes, or None.
        checkpoint: its contents; rank 0 only.
    """

    communicator: Communicator
    train: Images
    validation: Images
    data_fingerprint: str
    workers: range
    out: Path
    resumed: Path | None
    checkpoint: Checkpoint | None


def check_joined(launched_size: int | None, size: int) -> None:
    """Raises UserError unless the launcher's processes have found each other.

    Args:
        launched_size: how many the launcher says that it has started; None if there was none.
        size: how many Horovod has found.

    Raises:
        UserError: the numbers differ; every process would train by itself.

    Example:
        >>> check_joined(None, 1)
    """
    if launched_size is not None and launched_size != size:
        raise UserError(
            f"the launcher has started {launched_size} processes, but Horovod has joined {size} of them; "
            f"start them with hvd-imagenet launch, the mpirun of this environment, or srun --mpi=pmix"
        )


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
    agree_on_options(communicator, recipe, config)

    def place() -> range:
        try:
            return recipe.workers.placement(communicator.size)[communicator.rank]
        except ValueError as error:
            raise UserError(str(error)) from error

    workers = together(communicator, place)
    data = config.data

    def list_images() -> tuple[Images, Images]:
        return synthetic_dataset() if data is None else list_dataset(data, config.train_list)

    train, validation = first_on_each_host(communicator, list_images)
    data_fingerprint = train.fingerprint()
    agree(communicator, f"--data {config.data}", data_fingerprint, validation.fingerprint())
    agree_on_decoder(communicator)

    def open_run() -> tuple[Path | None, Found]:
        return _open_run(recipe, config, data_fingerprint) if communicator.rank == 0 else (None, Found())

    out, found = together(communicator, open_run)
    if found.warning is not None:
        print(f"warning: {found.warning}", file=sys.stderr, flush=True)
    folder, checkpoint = communicator.gather((str(out), str(found.path or "")))[0]
    resumed = Path(checkpoint) if checkpoint else None
    return Session(communicator, train, validation, data_fingerprint, workers, Path(folder), resumed, found.checkpoint)


def first_on_each_host(communicator: Communicator, action: Callable[[], Result]) -> Result:
    """Runs an action on one process of every host, then on the others, who find in the cache what it has left there.

    Args:
        communicator: every process of it must make this call.
        action: takes no arguments and makes no collective call.

    Returns:
        The action's result on this process.

    Raises:
        AgreedError: a mistake of the user on any process; on all of them.

    Example:
        >>> from hvd_imagenet.communicator import SingleProcess
        >>> first_on_each_host(SingleProcess(), lambda: 1 + 1)
        2
    """
    first = communicator.local_rank == 0
    result = together(communicator, lambda: action() if first else None)
    other = together(communicator, lambda: None if first else action())
    return result if first else other  # type: ignore[return-value]


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


def agree_on_options(communicator: Communicator, recipe: Recipe, config: RunConfig) -> None:
    """Makes sure that all processes make the same run; call it on all of them together.

    Args:
        communicator: the job's.
        recipe: of this process.
        config: of this process.

    Raises:
        AgreedError: a process was given other options than rank 0.

    Example:
        >>> from hvd_imagenet.communicator import SingleProcess
        >>> agree_on_options(SingleProcess(), Recipe(), RunConfig(Path("d")))
    """
    own = {name: value for name, value in config_of(recipe, config).items() if name not in _OWN_OF_A_PROCESS}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
    if len(set(communicator.gather(digest))) == 1:
        return
    of_all = communicator.gather(own)

    def compare() -> None:
        mine, first = of_all[communicator.rank], of_all[0]
        differences = [
            f"{name} {mine.get(name)}, not {first.get(name)}"
            for name in {**first, **mine}
            if mine.get(name) != first.get(name)
        ]
        if differences:
            raise UserError(
                f"rank {communicator.rank} on {os.uname().nodename} was given other options than rank 0: "
                f"{'; '.join(differences)}; give all processes the same"
            )

    together(communicator, compare)


def agree_on_decoder(communicator: Communicator) -> None:
    """Makes sure that all processes decode images alike; call it on all of them together.

    Args:
        communicator: the job's.

    Raises:
        AgreedError: a process decodes otherwise than rank 0: its images would depend on where they are read.

    Example:
        >>> from hvd_imagenet.communicator import SingleProcess
        >>> agree_on_decoder(SingleProcess())
    """
    of_all = communicator.gather(together(communicator, decoder_name))

    def compare() -> None:
        if of_all[communicator.rank] != of_all[0]:
            raise UserError(
                f"rank {communicator.rank} on {os.uname().nodename} decodes images with {of_all[communicator.rank]}, "
                f"rank 0 with {of_all[0]}; install the same Pillow and hvd_imagenet on all hosts (hvd-imagenet doctor "
                f"says what is missing), or set {CHOICE}=pillow on all"
            )

    together(communicator, compare)


def _open_run(recipe: Recipe, config: RunConfig, data_fingerprint: str) -> tuple[Path, Found]:
    found = choose_checkpoint(config)
    if found.path is not None and found.checkpoint is not None:
        check_same_run(found.path, found.checkpoint.manifest, recipe, data_fingerprint)
    if config.out is None:
        return new_run_folder(Path("runs"), config.recipe_name), found
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "config.yaml").touch()
    except OSError as error:
        raise UserError(f"--out {config.out}: cannot be written ({error.strerror}); choose another folder") from error
    return config.out, found


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
    fields = {"recipe": config.recipe_name, **dataclasses.asdict(recipe), **options}
    # Decays that follow from the length are left out, so that another --epochs moves them.
    if recipe.decay_epochs == scaled_decay_epochs(named(config.recipe_name), recipe.epochs):
        del fields["decay_epochs"]
    # Options leave out the unit that fields have in their names: --image-size, image_size_px.
    return {name.removesuffix("_px"): _plain(value) for name, value in fields.items()}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
