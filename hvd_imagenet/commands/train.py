"""`hvd-imagenet train`: the whole program, from a data folder to a run folder."""

import argparse
import os

from hvd_imagenet.commands.recipe_options import recipe_of
from hvd_imagenet.commands.train_options import EXAMPLES as EXAMPLES
from hvd_imagenet.commands.train_options import add_arguments as add_arguments
from hvd_imagenet.commands.train_options import run_config_of
from hvd_imagenet.determinism import variables_for
from hvd_imagenet.heartbeat import beat
from hvd_imagenet.horovod_build import check_installed
from hvd_imagenet.preemption import Signals


def run(arguments: argparse.Namespace) -> int:
    """Trains; the framework is imported only now, after the options have been checked.

    Args:
        arguments: the parsed options.

    Returns:
        The exit code.
    """
    signals = Signals()
    signals.watch()
    name, recipe = recipe_of(arguments)
    config = run_config_of(arguments, name)
    check_installed(config.framework)
    beat("starting")
    if config.deterministic:
        os.environ.update(variables_for(os.environ))
    if config.framework == "torch":
        from hvd_imagenet.torch.trainer import train
    else:
        from hvd_imagenet.keras.session import check_backend

        check_backend()
        from hvd_imagenet.keras.trainer import train

    train(recipe, config, signals)
    return 0
