"""The command line: finds the subcommand, imports only its module, turns a user's mistake into one line."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from hvd_imagenet import __version__
from hvd_imagenet.commands import COMMANDS
from hvd_imagenet.errors import Preempted, UserError
from hvd_imagenet.launcher.environment import elect_spokesman, launched_rank, quiet_unless_spokesman

_INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line like every other mistake of a user's."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError in place of argparse's usage block."""
        raise UserError(f"{message}; see: {self.prog} --help")


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser of the program; only the chosen subcommand's module is imported.

    Args:
        chosen: the subcommand whose options are wanted, or None for the overview alone.

    Returns:
        A parser whose result has `run`, the function to call with it.
    """
    parser = Parser(
        prog="hvd-imagenet",
        description=(
            "Large-minibatch training on Horovod, after Goyal et al. 2017. "
            "The result of a run is fixed by its recipe, not by the number of processes."
        ),
        epilog="`hvd-imagenet COMMAND --help` shows a command's options and examples.",
    )
    parser.add_argument("--version", action="version", version=f"hvd-imagenet {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, summary in COMMANDS.items():
        if name != chosen:
            subparsers.add_parser(name, help=summary, add_help=False)
            continue
        module = importlib.import_module("hvd_imagenet.commands." + name.replace("-", "_"))
        subparser = subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=getattr(module, "EXAMPLES", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: the words after the program's name; those of the process if None.

    Returns:
        The exit code: 0, 2 after a user's mistake, 130 after Ctrl-C, or 143 where SIGTERM or SIGUSR1 has ended a run
        that is saved.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), None)
    try:
        arguments = build_parser(chosen).parse_args(words)
        return int(arguments.run(arguments))
    except UserError as error:
        elect_spokesman(error.spokesman)
        quiet_unless_spokesman()
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except Preempted as preempted:  # the trainer has said so
        return preempted.exit_code
    except KeyboardInterrupt:
        if launched_rank() is not None:
            raise  # the job's own handler ends the other ranks
        print("interrupted", file=sys.stderr, flush=True)
        return _INTERRUPTED
