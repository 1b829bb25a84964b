"""`-c FILE`: a YAML file of options; what the command line says wins."""

import argparse
import dataclasses
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import yaml

from hvd_imagenet.errors import UserError
from hvd_imagenet.run_config import RunConfig

_LARGEST = 10**18  # beyond any option; Python refuses to write integers of thousands of digits
# A run's config.yaml holds these too; a command that has no use for them passes over them.
_OF_TRAIN = frozenset(field.name for field in dataclasses.fields(RunConfig))


class ConfigFile(argparse.Action):
    """Fills the options that the command line leaves open; their defaults must be None."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: "str | Sequence[Any] | None",
        option_string: str | None = None,
    ) -> None:
        """Reads the file as if its options stood in front of all others."""
        path = Path(str(values))
        try:
            words = words_of(path)
            # Whole names alone: argparse would take --epoch for --epochs, and --help would end the program.
            names = {option for each in parser._actions for option in each.option_strings} - {"--help"}
            unknown = [
                word
                for word in words
                if word.startswith("--") and word.split("=")[0] not in names and _field_name(word) not in _OF_TRAIN
            ]
            if unknown:
                parser.error(f"unrecognized arguments: {' '.join(unknown)}")
            given, surplus = parser.parse_known_args(_of_options(words, names))
            if surplus:
                parser.error(f"more values than their options take: {' '.join(surplus)}")
        except UserError as error:
            line = " ".join(str(error).split())
            raise UserError(line if line.startswith("-c ") else f"-c {path}: {line}") from error
        for name, value in vars(given).items():
            if getattr(namespace, name, None) is None:
                setattr(namespace, name, value)


def words_of(path: Path) -> list[str]:
    """The words of a command line that say what a YAML file says.

    Args:
        path: of a file with lines such as `minibatch: 8192`; names as on the command line, with `-` or `_`.

    Returns:
        Words: a list's items follow their option, true and false become --NAME and --no-NAME, null is left out.

    Raises:
        UserError: it cannot be read, or is no list of names and values.

    Example:
        >>> import tempfile
        >>> options = {"minibatch": 64, "nesterov": False, "decay_epochs": [1, 2.5], "clip_grad": None}
        >>> with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        ...     yaml.safe_dump(options, file, sort_keys=False)
        ...     words_of(Path(file.name))
        ['--minibatch=64', '--no-nesterov', '--decay-epochs', '1', '2.5']
    """
    try:
        options = yaml.safe_load(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: of a date, or of UTF-8
        raise UserError(f"-c {path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(options, dict) or not all(isinstance(n, str) and _is_plain(v) for n, v in options.items()):
        raise UserError(f"-c {path}: must hold lines such as `minibatch: 8192`, without nesting")
    if any("config".startswith(str(name)) for name in options):
        raise UserError(f"-c {path}: must not name another file of options (config)")
    words: list[str] = []
    for name, value in options.items():
        option = "--" + str(name).replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, list):
            words += [option, *map(str, value)]
        else:
            words.append(f"{option}={value}")
    return words


def _of_options(words: list[str], names: Container[str]) -> list[str]:
    """Those of the words that are some options and their values."""
    kept, wanted = [], False
    for word in words:
        if word.startswith("--"):
            wanted = word.split("=")[0] in names
        if wanted:
            kept.append(word)
    return kept


def _is_plain(value: object) -> bool:
    """Whether it is a list of numbers or no collection; text of collections may be exponentially longer than a file."""
    if isinstance(value, list):
        return all(isinstance(each, str | int | float) and _is_number(each) for each in value)
    if isinstance(value, str):
        return "\0" not in value
    return value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < _LARGEST)


def _is_number(value: str | float) -> bool:
    try:
        float(value)
    except (ValueError, OverflowError):
        return False
    return True


def _field_name(word: str) -> str:
    """The option's name in `--NAME=value`, `--NAME` or `--no-NAME`, as a field is spelt."""
    return word.split("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_")
