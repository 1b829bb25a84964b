"""Options that make a Recipe, shared by `train` and `schedule`; each field of Recipe has one."""

import argparse
import dataclasses
from typing import Any

from hvd_imagenet.commands.config_file import ConfigFile
from hvd_imagenet.core.lars import TRUST_COEFFICIENT
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import MODELS, OPTIMIZERS, RECIPES, SCHEDULES, WARMUPS, Recipe, named, scaled_decay_epochs

DEFAULT_RECIPE = "resnet50_1hour"
_DEFAULT_EMA_DECAY = 0.9998
_SWITCH: dict[str, Any] = {"action": argparse.BooleanOptionalAction, "default": None}


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a recipe; all are None unless given, so that the named recipe holds.

    Args:
        parser: of the subcommand.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_recipe_arguments(parser)
        >>> parser.parse_args(["--minibatch", "512"]).minibatch
        512
    """
    add = parser.add_argument_group("the recipe: what fixes the result").add_argument
    add("-c", "--config", action=ConfigFile, metavar="FILE", help="YAML file of options, as a run's config.yaml")
    add("--recipe", metavar="NAME", help=f"{', '.join(sorted(RECIPES))} (default: {DEFAULT_RECIPE})")
    add("--model", choices=MODELS, metavar="NAME", help=", ".join(MODELS))
    add("--minibatch", type=int, metavar="KN", help="images in one iteration, over all processes")
    add("--per-worker", type=int, metavar="N", help="images of one virtual worker, for its batch norm statistics")
    add("--epochs", type=float, metavar="E", help="length; decay epochs not given keep their fraction of it")
    add("--seed", type=int, metavar="S", help="of initial weights, order and augmentation")
    _add_optimizer_arguments(parser)
    _add_input_arguments(parser)


def _add_optimizer_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the recipe: learning rate and optimizer").add_argument
    add("--reference-lr", type=float, metavar="LR", help="learning rate at the reference minibatch")
    add("--reference-minibatch", type=int, metavar="KN", help="the minibatch that --reference-lr belongs to")
    add("--warmup", choices=WARMUPS, help="only for minibatches beyond the reference")
    add("--warmup-epochs", type=float, metavar="E")
    add("--schedule", choices=SCHEDULES)
    add("--decay-epochs", type=float, nargs="+", metavar="E", help="where --schedule step decays")
    add("--decay-factor", type=float, metavar="F")
    add("--opt", choices=OPTIMIZERS, help="momentum SGD, or LARS for minibatches beyond where that breaks")
    add("--trust-coefficient", type=float, metavar="C", help=f"of --opt lars (default: {TRUST_COEFFICIENT:g})")
    add("--momentum", type=float, metavar="M")
    add("--nesterov", **_SWITCH)
    add("--weight-decay", type=float, metavar="LAMBDA", help="on everything but batch norm")
    add("--decay-batch-norm", help="on batch norm too, against the paper", **_SWITCH)
    add("--zero-last-gamma", help="gamma 0 at first in the last batch norm of every block", **_SWITCH)
    add("--label-smoothing", type=float, metavar="SHARE")
    add("--clip-grad", type=float, metavar="NORM", help="largest norm of the reduced gradient")
    add("--model-ema", help=f"average the weights and validate the average, with decay {_DEFAULT_EMA_DECAY}", **_SWITCH)
    add("--model-ema-decay", type=float, metavar="D", help="--model-ema with this decay")


def _add_input_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the recipe: images").add_argument
    add("--image-size", dest="image_size_px", type=int, metavar="PX", help="side of the network's input")
    add("--validation-resize", dest="validation_resize_px", type=int, metavar="PX", help="shorter side before the crop")
    add("--area-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of random crops, fractions of the image")
    add("--aspect-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of random crops, width over height")
    add("--horizontal-flip", help="mirror every second training image", **_SWITCH)
    add("--pixel-mean", type=float, nargs=3, metavar=("R", "G", "B"), help="in units of 0-255")
    add("--pixel-std", type=float, nargs=3, metavar=("R", "G", "B"), help="in units of 0-255")


def recipe_of(arguments: argparse.Namespace) -> tuple[str, Recipe]:
    """The named recipe with the changes that the options ask for.

    Args:
        arguments: of a parser with add_recipe_arguments.

    Returns:
        The name of the named recipe, and the recipe.

    Raises:
        UserError: a value breaks its rule.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_recipe_arguments(parser)
        >>> name, recipe = recipe_of(parser.parse_args(["--recipe", "resnet50_256", "--epochs", "45"]))
        >>> name, recipe.minibatch, recipe.decay_epochs
        ('resnet50_256', 256, (15.0, 30.0, 40.0))
    """
    options = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Recipe)}
    changes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items() if value is not None
    }
    if arguments.model_ema is False:
        changes["model_ema_decay"] = None
    elif arguments.model_ema:
        changes.setdefault("model_ema_decay", _DEFAULT_EMA_DECAY)
    name = arguments.recipe or DEFAULT_RECIPE
    try:
        recipe = named(name)
        if "epochs" in changes and "decay_epochs" not in changes:
            changes["decay_epochs"] = scaled_decay_epochs(recipe, changes["epochs"])
        return name, dataclasses.replace(recipe, **changes)
    except ValueError as error:
        raise UserError(str(error)) from error
