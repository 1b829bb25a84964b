"""The options of `train`, and the run's configuration that they give."""

import argparse
import dataclasses
from pathlib import Path

from hvd_imagenet.commands.recipe_options import add_recipe_arguments
from hvd_imagenet.core.minibatch import positive_integer
from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.environment import launched_size, output_is_terminal
from hvd_imagenet.run_config import AMP_DTYPES, COMPRESSIONS, DTYPES, FRAMEWORKS, RunConfig

EXAMPLES = """\
examples:
  hvd-imagenet train --recipe digits --data digits
      one process
  hvd-imagenet launch -np 2 -- train --recipe digits --data digits
      two processes, the same result
  hvd-imagenet train --data /data/imagenet --minibatch 1024 --out run
      goes on where it was stopped
  hvd-imagenet train -c runs/digits-20260101-120000/config.yaml
      the same run again

preemption:
  SIGTERM or SIGUSR1 to any process, at any time: all processes agree, write one
  checkpoint and leave with exit code 143. The same command with the same --out
  goes on, on as many processes as there are then. Under Slurm:
    sbatch --requeue --signal=USR1@120   and   srun hvd-imagenet train --requeue
  The first --requeue is for jobs that Slurm takes the machine from, the second
  for those whose time is over: SIGUSR1 says so 120 s before. SIGTERM is what
  scancel sends; such a job is not put back.
"""
_RUN_OPTIONS = [
    field.name
    for field in dataclasses.fields(RunConfig)
    if field.name not in ("data", "recipe_name", "progress_bar", "launched_size")
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `train`; all are None unless given."""
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="holds train/CLASS/*.JPEG and val/CLASS/*.JPEG")
    add("--train-list", type=Path, metavar="FILE", help="names the training images to keep, one a line (default: all)")
    add("--out", type=Path, metavar="DIR", help="run folder (default: a new one under runs/)")
    add("--framework", choices=FRAMEWORKS, help="(default: torch)")
    add("--resume", metavar="auto|never|PATH", help="go on where --out ends, start anew, or go on from a checkpoint")
    add(
        "--initial-checkpoint",
        type=Path,
        metavar="FILE",
        help="begin with its weights: .safetensors, or .pth in PyTorch",
    )
    add("--checkpoint-interval", type=int, metavar="ITERATIONS", help="beside the one at the end of every epoch")
    add("--checkpoint-minutes", type=float, metavar="MINUTES", help="likewise, by the clock")
    add("--checkpoint-hist", type=int, metavar="K", help="keep the last K and the best (default: 3)")
    add("--max-iterations", type=int, metavar="I", help="stop after so many")
    add(
        "--requeue",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="after SIGUSR1 call `scontrol requeue` for this Slurm job",
    )
    add_recipe_arguments(parser)
    add = parser.add_argument_group("computing: what changes the result by rounding alone").add_argument
    add("--dtype", choices=DTYPES, help="of weights (default: float32)")
    add("--amp-dtype", choices=AMP_DTYPES, help="automatic mixed precision")
    add(
        "--tf32",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="let GPUs multiply float32 as TensorFloat-32: faster, 1e-3 in place of 1e-7",
    )
    add("--channels-last", action=argparse.BooleanOptionalAction, default=None, help="memory layout; faster on CPUs")
    add("--torchcompile", action=argparse.BooleanOptionalAction, default=None, help="compile the network")
    add("--compression", choices=COMPRESSIONS, help="of gradients on the wire (default: none)")
    add("--workers-per-pass", type=int, metavar="M", help="virtual workers in one forward and backward pass")
    add("--threads", type=int, metavar="T", help="that decode images, in each process (default: its cores)")
    add(
        "--synthetic",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="images from memory, to find the ceiling",
    )
    add("--bad-images", metavar="stop|skip=N", help="take others for N unreadable training images (default: stop)")
    add(
        "--skip-nonfinite",
        type=int,
        metavar="N",
        help="make no update in up to N iterations whose loss or gradient is no finite number (default: 0, stop)",
    )
    add(
        "--deterministic",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="the same bits from run to run on as many processes, threads and hosts; slower",
    )


def run_config_of(arguments: argparse.Namespace, recipe_name: str) -> RunConfig:
    """The run's configuration that the options give.

    Args:
        arguments: of this command's parser.
        recipe_name: of the named recipe.

    Returns:
        The configuration.

    Raises:
        UserError: --data is missing, or a number is not positive.
    """
    if arguments.synthetic:
        arguments.data = arguments.train_list = None
    elif arguments.data is None:
        raise UserError("--data is missing: name a folder, or make one: hvd-imagenet make-dataset DIR --source digits")
    given = {name: getattr(arguments, name) for name in _RUN_OPTIONS if getattr(arguments, name) is not None}
    for name in ("checkpoint_interval", "checkpoint_hist", "max_iterations", "workers_per_pass", "threads"):
        try:
            positive_integer("--" + name.replace("_", "-"), given.get(name, 1))
        except ValueError as error:
            raise UserError(str(error)) from error
    try:
        return RunConfig(
            data=arguments.data,
            recipe_name=recipe_name,
            progress_bar=output_is_terminal(),
            launched_size=launched_size(),
            **given,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
