"""`hvd-imagenet make-dataset`: writes a small image data set in ImageNet's layout."""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tqdm import tqdm

from hvd_imagenet.data.cifar import CIFAR, cifar_files
from hvd_imagenet.data.cluttered_digits import ClutteredDigitsOptions, cluttered_digit_files
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
  hvd-imagenet make-dataset data/cluttered --source cluttered-digits \\
      --images 100000 --size 16
  hvd-imagenet make-dataset data/cifar10 --source cifar10 \\
      --from cifar-10-binary.tar.gz
"""
_OPTIONS = ("images", "classes", "size", "seed")
_RECIPES = {
    "digits": "digits",
    "cluttered-digits": "cluttered_digits",
    "shapes": "shapes",
    "cifar10": "resnet20_cifar",
    "cifar100": "resnet20_cifar",
}
# Relative path and content of each file; how many there are.
_Files = tuple[Iterator[tuple[str, bytes]], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the folder, the source, and the options of the procedural images."""
    default, digits = ShapesOptions(), ClutteredDigitsOptions()
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder to make: DIR/train/CLASS, DIR/val/CLASS")
    parser.add_argument(
        "--source", required=True, choices=_RECIPES, metavar="NAME",
        help="digits, scanned; cluttered-digits, any number of images made of them; shapes; cifar10; cifar100",
    )  # fmt: skip
    parser.add_argument(
        "--from", dest="archive", metavar="ARCHIVE", type=Path, help="cifar-10-binary.tar.gz or cifar-100-binary.tar.gz"
    )
    add = parser.add_argument_group("options of --source shapes and cluttered-digits").add_argument
    add(
        "--images", metavar="N", type=int,
        help=f"training images; N / 4 for validation on top ({default.images}; cluttered-digits: {digits.images})",
    )  # fmt: skip
    add("--classes", metavar="C", type=int, help=f"number of classes of shapes ({default.classes})")
    add("--size", metavar="PX", type=int, help=f"side of the images ({default.size}; cluttered-digits: {digits.size})")
    add("--seed", metavar="S", type=int, help=f"another seed, other images ({default.seed})")


def run(arguments: argparse.Namespace) -> int:
    """Makes the data set, unless it is already there."""
    folder: Path = arguments.folder
    options, make = _dataset(arguments)
    if is_finished(folder, options):
        print(f"{folder} already holds this data set.")
    else:
        files, total = make()
        with tqdm(files, total=total, unit="img", file=sys.stderr, disable=not sys.stderr.isatty()) as progress:
            counts = write_dataset(folder, options, progress)
        print(f"Wrote {counts['train']} training and {counts['val']} validation images to {folder}.")
    print(f"next: {own_command()} train --recipe {_RECIPES[arguments.source]} --data {shlex.quote(str(folder))}")
    return 0


def _dataset(arguments: argparse.Namespace) -> tuple[dict[str, "str | int"], Callable[[], _Files]]:
    """All that determines the images, and what makes them."""
    source: str = arguments.source
    given = {name: getattr(arguments, name) for name in _OPTIONS if getattr(arguments, name) is not None}
    if source not in ("shapes", "cluttered-digits") and given:
        raise UserError(f"--{next(iter(given))} does not apply to --source {source}, which is fixed; leave it out")
    if source not in CIFAR and arguments.archive is not None:
        raise UserError(f"--from does not apply to --source {source}, which needs no archive; leave it out")
    if source == "digits":
        return {"source": source}, lambda: (digit_files(), IMAGES)
    if source in CIFAR:
        if arguments.archive is None:
            raise UserError(f"--from is missing: give the path of {CIFAR[source].archive}")
        return {"source": source, "from": arguments.archive.name}, partial(cifar_files, source, arguments.archive)
    try:
        return _procedural(source, given)
    except ValueError as error:
        raise UserError(f"--{error}") from error


def _procedural(source: str, given: dict[str, int]) -> tuple[dict[str, "str | int"], Callable[[], _Files]]:
    if source == "shapes":
        shapes = ShapesOptions(**given)
        return {"source": source, **shapes.as_dict()}, lambda: (shape_files(shapes), _total(shapes))
    if "classes" in given:
        raise UserError("--classes does not apply to --source cluttered-digits, which has ten; leave it out")
    digits = ClutteredDigitsOptions(**given)
    return {"source": source, **digits.as_dict()}, lambda: (cluttered_digit_files(digits), _total(digits))


def _total(options: ShapesOptions | ClutteredDigitsOptions) -> int:
    return options.images + options.validation_images
