"""`hvd-imagenet schedule`: the learning rate of every iteration, without training."""

import argparse
import os
import sys

from hvd_imagenet import schedule_preview
from hvd_imagenet.commands.recipe_options import add_recipe_arguments, recipe_of
from hvd_imagenet.core.minibatch import positive_integer
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import Recipe

_IMAGENET_IMAGES = 1_281_167
EXAMPLES = """\
examples:
  hvd-imagenet schedule                                     the paper's main run
  hvd-imagenet schedule --minibatch 1024 --schedule cosine  another minibatch
  hvd-imagenet schedule --minibatch 8192 --csv > lr.csv     every iteration
  hvd-imagenet schedule --recipe digits --images 1437
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `schedule`; all are None unless given."""
    add = parser.add_argument
    add("--images", type=int, metavar="N", help=f"training images (default: {_IMAGENET_IMAGES}, ImageNet's)")
    add("--csv", action="store_true", default=None, help="print iteration,epoch,lr: one row an iteration")
    add_recipe_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the CSV, or the table and the plot.

    Args:
        arguments: the parsed options.

    Returns:
        The exit code, 0.

    Raises:
        UserError: a value breaks its rule.
    """
    _, recipe = recipe_of(arguments)
    images = _IMAGENET_IMAGES if arguments.images is None else arguments.images
    try:
        positive_integer("--images", images)
    except ValueError as error:
        raise UserError(str(error)) from error
    try:
        _print_csv(recipe, images) if arguments.csv else _print_preview(recipe, images)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (`| head`); what Python would still flush at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _print_csv(recipe: Recipe, images: int) -> None:
    print("iteration,epoch,lr")
    for iteration, epoch, lr in schedule_preview.rows(recipe, images):
        print(f"{iteration},{epoch!r},{lr!r}")


def _print_preview(recipe: Recipe, images: int) -> None:
    plain = not sys.stdout.isatty() or sys.stdout.encoding.lower() != "utf-8"
    print(schedule_preview.headline(recipe, images))
    print()
    print(schedule_preview.table(recipe, images))
    print()
    print(schedule_preview.plot(recipe, images, plain))
