"""The words of `train` in each start of a job that is started again after failures."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.commands.recipe_options import recipe_of
from hvd_imagenet.commands.train_options import add_arguments, run_config_of
from hvd_imagenet.errors import UserError
from hvd_imagenet.run_folder import new_run_folder


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see: {self.prog} --help")


def words_of_starts(words: Sequence[str]) -> Callable[[int], list[str]]:
    """One run folder for all starts, from whose last checkpoint the later ones go on.

    Args:
        words: of `train`, without that name; if they have no --out, a new run folder is made.

    Returns:
        The words, as a function of the number of earlier starts.

    Raises:
        UserError: `train` would not take the words.

    Example:
        >>> words_of_starts(["--data", "d", "--out", "/nonexistent/run"])(1)
        ['--data', 'd', '--out', '/nonexistent/run']
    """
    parser = _Parser(prog="hvd-imagenet train")
    add_arguments(parser)
    arguments = parser.parse_args(words)
    run_config_of(arguments, recipe_of(arguments)[0])
    added = []
    out = arguments.out
    if out is None:
        out = new_run_folder(Path("runs"), recipe_of(arguments)[0])
        added = ["--out", str(out)]

    def words_of_start(starts: int) -> list[str]:
        # --resume never, or another run's checkpoint, is for the first start alone.
        resumed = ["--resume", "auto"] if starts and checkpoints.latest(out) is not None else []
        return [*words, *added, *resumed]

    return words_of_start
