"""`hvd-imagenet install-horovod`."""

import argparse

from hvd_imagenet.errors import UserError
from hvd_imagenet.horovod_build.install import install_horovod

EXAMPLES = """\
examples:
  hvd-imagenet install-horovod            for the installed torch and tensorflow
  hvd-imagenet install-horovod --force    build again, whatever the cache holds
  HOROVOD_WITHOUT_TENSORFLOW=1 hvd-imagenet install-horovod      for torch alone
  HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_NCCL_HOME=DIR CUDA_HOME=DIR \\
      HOROVOD_CUDA_HOME=DIR hvd-imagenet install-horovod               with NCCL

Horovod's other build variables are passed on too.
Wheels are kept in ${XDG_CACHE_HOME:-~/.cache}/hvd_imagenet/wheels.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    parser.add_argument("--force", action="store_true", help="build even where the same build is cached or installed")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="files to compile at once (default: by cores and free memory)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Installs Horovod; the exit code."""
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs}: must be at least 1")
    install_horovod(force=arguments.force, jobs=arguments.jobs)
    return 0
