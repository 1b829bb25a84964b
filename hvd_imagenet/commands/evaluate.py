"""`hvd-imagenet evaluate`: validation errors of a checkpoint, on any number of processes."""

import argparse
import json
from pathlib import Path

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.core.minibatch import positive_integer
from hvd_imagenet.data.evaluation_data import Matched
from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build import check_installed
from hvd_imagenet.launcher.environment import launched_size
from hvd_imagenet.run_config import FRAMEWORKS

EXAMPLES = """\
examples:
  hvd-imagenet evaluate --checkpoint runs/RUN --data DIR
  hvd-imagenet launch -np 2 -- evaluate --checkpoint runs/RUN --data DIR --json
  hvd-imagenet evaluate --framework keras --checkpoint runs/RUN --data DIR
  hvd-imagenet evaluate --checkpoint runs/RUN --data imagenetv2
      its folders 0 to 999 are the sorted training classes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `evaluate`."""
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="PATH", help="a checkpoint or a run folder")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="holds val/CLASS/*.JPEG, or CLASS/*.JPEG"
    )
    parser.add_argument("--framework", choices=FRAMEWORKS, help="(default: the one it was trained in)")
    parser.add_argument("--threads", type=int, metavar="T", help="that decode images, in each process")
    parser.add_argument("--json", action="store_true", help="print the numbers as a JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Evaluates and prints.

    Args:
        arguments: the parsed options.

    Returns:
        The exit code.
    """
    try:
        positive_integer("--threads", 1 if arguments.threads is None else arguments.threads)
    except ValueError as error:
        raise UserError(str(error)) from error
    manifest = checkpoints.read_manifest(checkpoints.find(arguments.checkpoint))
    framework = arguments.framework or manifest.get("framework", "torch")
    check_installed(framework)
    if framework == "torch":
        from hvd_imagenet.torch.evaluate_checkpoint import evaluate_checkpoint
    else:
        from hvd_imagenet.keras.session import check_backend

        check_backend()
        from hvd_imagenet.keras.evaluate_checkpoint import evaluate_checkpoint

    result = evaluate_checkpoint(arguments.checkpoint, arguments.data, arguments.threads, launched_size())
    if result is None:
        return 0
    if arguments.json:
        print(json.dumps(result))
    else:
        average = " (the running average of the weights)" if result["weights"] == "model_ema" else ""
        errors = f"top-1 error {result['val_error']:.2f} %, top-5 error {result['val_error_top5']:.2f} %"
        matched = Matched(result["classes"], result["network_classes"], result["classes_matched_by"])
        images = f"{result['images']:,} validation images of {matched}, loss {result['val_loss']:.4f}"
        print(f"{result['checkpoint']}{average}: {images}, {errors}")
    return 0
