"""`hvd-imagenet doctor`."""

import argparse

from hvd_imagenet.horovod_build.doctor import examine
from hvd_imagenet.horovod_build.finding import as_json, as_text, works

EXAMPLES = """\
examples:
  hvd-imagenet doctor            what is installed, what fits, and what to do
  hvd-imagenet doctor --json     the same for a program

The exit code is 1 where training would not work.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    parser.add_argument("--json", action="store_true", help="print a JSON object with `works` and `findings`")


def run(arguments: argparse.Namespace) -> int:
    """Prints the findings; the exit code."""
    findings = examine()
    print(as_json(findings) if arguments.json else as_text(findings))
    return 0 if works(findings) else 1
