"""`hvd-imagenet make-dataset`: writes a small image data set in ImageNet's layout."""

import argparse
import shlex
import sys
from pathlib import Path

from tqdm import tqdm

from hvd_imagenet.data.dataset_folder import is_finished, write_dataset
from hvd_imagenet.data.digits import IMAGES, digit_files
from hvd_imagenet.data.shapes import ShapesOptions, shape_files
from hvd_imagenet.errors import UserError
from hvd_imagenet.progress import own_command

EXAMPLES = """\
examples:
  hvd-imagenet make-dataset data/digits --source digits
  hvd-imagenet make-dataset data/shapes --source shapes --images 8000 \\
      --classes 20 --size 64 --seed 1
"""
_SHAPES_OPTIONS = ("images", "classes", "size", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the folder, the source, and the options of the procedural images."""
    default = ShapesOptions()
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder to make: DIR/train/CLASS, DIR/val/CLASS")
    parser.add_argument("--source", required=True, choices=("digits", "shapes"), help="scanned digits, or procedural")
    shapes = parser.add_argument_group("options of --source shapes")
    shapes.add_argument(
        "--images", metavar="N", type=int, help=f"training images; N / 4 for validation on top ({default.images})"
    )
    shapes.add_argument("--classes", metavar="C", type=int, help=f"number of classes ({default.classes})")
    shapes.add_argument("--size", metavar="PX", type=int, help=f"side of the images in pixels ({default.size})")
    shapes.add_argument("--seed", metavar="S", type=int, help=f"another seed, other images ({default.seed})")


def run(arguments: argparse.Namespace) -> int:
    """Makes the data set, unless it is already there."""
    given = {name: getattr(arguments, name) for name in _SHAPES_OPTIONS if getattr(arguments, name) is not None}
    options: dict[str, str | int] = {"source": arguments.source}
    if arguments.source == "digits":
        if given:
            raise UserError(f"--{next(iter(given))} does not apply to --source digits, which is fixed; leave it out")
        files, total = digit_files(), IMAGES
    else:
        try:
            shapes = ShapesOptions(**given)
        except ValueError as error:
            raise UserError(f"--{error}") from error
        options |= shapes.as_dict()
        files, total = shape_files(shapes), shapes.images + shapes.validation_images
    folder: Path = arguments.folder
    if is_finished(folder, options):
        print(f"{folder} already holds this data set.")
    else:
        with tqdm(files, total=total, unit="img", file=sys.stderr, disable=not sys.stderr.isatty()) as progress:
            counts = write_dataset(folder, options, progress)
        print(f"Wrote {counts['train']} training and {counts['val']} validation images to {folder}.")
    print(f"next: {own_command()} train --recipe {arguments.source} --data {shlex.quote(str(folder))}")
    return 0
