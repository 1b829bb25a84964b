"""`hvd-imagenet doctor`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hvd_imagenet.asked_file import write_asked_for
from hvd_imagenet.doctor.examination import examine_hosts
from hvd_imagenet.doctor.table import as_json as hosts_as_json
from hvd_imagenet.doctor.table import as_table
from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build.doctor import examine
from hvd_imagenet.horovod_build.finding import as_json, as_text, works
from hvd_imagenet.launcher.hosts import Host, listed_hosts, read_hosts

EXAMPLES = """\
examples:
  hvd-imagenet doctor            what is installed, what fits, and what to do
  hvd-imagenet doctor --json     the same for a program
  hvd-imagenet doctor -H node1:8,node2:8 --data /data/imagenet
      the same of each host, over ssh, side by side: versions, images, clocks,
      names, limits, /dev/shm, GPUs, and the network between each two

The exit code is 1 where training would not work.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    add = parser.add_argument
    add("--json", nargs="?", const="-", metavar="FILE", help="write a JSON object with `works` and `findings`")
    add = parser.add_argument_group("several hosts").add_argument
    add("-H", dest="host_list", metavar="HOST:SLOTS,…", help="node1:8,node2:8, as launch takes them")
    add("--hostfile", "--hosts", type=Path, metavar="FILE", help="the same, a host a line: node1:8")
    add("--data", type=Path, metavar="DIR", help="images that all hosts must see alike")
    add("--network-interface", metavar="IF", help="for all traffic between hosts (default: by the routes)")


def run(arguments: argparse.Namespace) -> int:
    """Prints the findings; the exit code."""
    hosts = _hosts(arguments)
    if hosts:
        examined = examine_hosts(hosts, arguments.data, arguments.network_interface, _say)
        pairs = examined.measured.pairs if examined.measured is not None else ()
        findings = examined.findings
        in_json = hosts_as_json(examined.answers, pairs, findings)
        shown = f"{as_table(examined.answers, arguments.network_interface, pairs)}\n\n{as_text(findings)}"
    else:
        findings = examine()
        in_json, shown = as_json(findings), as_text(findings)
    if arguments.json is not None and arguments.json != "-":
        write_asked_for("--json", Path(arguments.json), in_json)
    print(in_json if arguments.json == "-" else shown)
    return 0 if works(findings) else 1


def _hosts(arguments: argparse.Namespace) -> Sequence[Host]:
    """The hosts that the options name; none for this one alone."""
    if arguments.host_list is not None and arguments.hostfile is not None:
        raise UserError("-H and --hostfile both say which hosts there are; give one of them")
    if arguments.host_list is not None:
        return listed_hosts(arguments.host_list)
    if arguments.hostfile is not None:
        return read_hosts(arguments.hostfile)
    for option, value in (("--data", arguments.data), ("--network-interface", arguments.network_interface)):
        if value is not None:
            raise UserError(f"{option} {value}: is looked for on hosts; name them with -H, this one as -H localhost")
    return ()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
