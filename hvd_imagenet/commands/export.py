"""`hvd-imagenet export`: a checkpoint's weights under the names that other programs know."""

import argparse
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.errors import UserError
from hvd_imagenet.weights import to_keras, to_torchvision

EXAMPLES = """\
examples:
  hvd-imagenet export --checkpoint runs/RUN --to torchvision --out resnet50.pth
      model = torchvision.models.resnet50()
      model.load_state_dict(torch.load("resnet50.pth"))
  hvd-imagenet export --checkpoint runs/RUN --to keras --out r50.safetensors
      arrays LAYER/VARIABLE in Keras' layouts, layers by torchvision's names
"""
_CONVERSIONS = {"torchvision": to_torchvision, "keras": to_keras}
_ENDINGS = {"torchvision": (".pth", ".safetensors"), "keras": (".safetensors",)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `export`."""
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="PATH", help="a checkpoint or a run folder")
    parser.add_argument("--to", choices=sorted(_CONVERSIONS), required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".safetensors, or .pth for torchvision")
    parser.add_argument(
        "--model-ema", action="store_true", help="the running average of the weights (train --model-ema) in their place"
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the file.

    Args:
        arguments: the parsed options.

    Returns:
        The exit code.

    Raises:
        UserError: the checkpoint or the file's ending will not do.
    """
    endings = _ENDINGS[arguments.to]
    if arguments.out.suffix not in endings:
        raise UserError(f"--out {arguments.out} must end in {' or '.join(endings)} for --to {arguments.to}")
    path = checkpoints.find(arguments.checkpoint)
    checkpoint = checkpoints.load(path)
    part = "model_ema" if arguments.model_ema else "model"
    if part not in checkpoint.tensors:
        raise UserError(f"checkpoint {path} has no running average: it was trained without --model-ema")
    arrays = _CONVERSIONS[arguments.to](checkpoint.tensors[part])
    try:
        _write(arguments.out, arrays)
    except (OSError, SafetensorError) as error:
        raise UserError(f"--out {arguments.out}: cannot be written ({error}); choose another file") from error
    print(f"{len(arrays)} arrays of {checkpoint.manifest['recipe']['model']}, {path}, are in {arguments.out}")
    return 0


def _write(out: Path, arrays: dict[str, np.ndarray]) -> None:
    if out.suffix == ".safetensors":
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, out)
        return
    import torch

    torch.save({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, out)
