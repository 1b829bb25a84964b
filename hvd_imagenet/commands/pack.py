"""`hvd-imagenet pack`: packs a data folder into a few large files with random access."""

import argparse
import shlex
from functools import partial
from pathlib import Path

from tqdm import tqdm

from hvd_imagenet.core.minibatch import positive_integer
from hvd_imagenet.data.packed import verify
from hvd_imagenet.data.reader import default_threads
from hvd_imagenet.errors import UserError
from hvd_imagenet.progress import own_command

EXAMPLES = """\
examples:
  hvd-imagenet pack /data/imagenet /local/imagenet-packed
      the files as they are; SRC may also hold ILSVRC2012_img_train.tar
  hvd-imagenet pack /data/imagenet /local/imagenet-400 --max-side 400
      larger images encoded again: less to read and less to decode
  hvd-imagenet pack --verify /local/imagenet-packed
"""
_DEFAULT_SHARD_MB = 256
_DEFAULT_QUALITY = 90


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds both folders and the options."""
    parser.add_argument("source", metavar="SRC", type=Path, nargs="?", help="data folder, or ILSVRC's tar archives")
    parser.add_argument("folder", metavar="DST", type=Path, nargs="?", help="folder to make, or to go on with")
    parser.add_argument("--max-side", metavar="PX", type=int, help="make images with a longer side smaller")
    parser.add_argument(
        "--quality", metavar="Q", type=int, help=f"of the JPEGs that --max-side writes (default: {_DEFAULT_QUALITY})"
    )
    parser.add_argument(
        "--shard-mb", metavar="MB", type=int, default=_DEFAULT_SHARD_MB, help="size of a file (default: %(default)s)"
    )
    parser.add_argument("--threads", metavar="T", type=int, help="that read and encode (default: this process' cores)")
    parser.add_argument("--verify", metavar="DST", type=Path, help="compare all files with their SHA-256, no more")


def run(arguments: argparse.Namespace) -> int:
    """Packs, or verifies."""
    threads = default_threads() if arguments.threads is None else arguments.threads
    try:
        positive_integer("--threads", threads)
    except ValueError as error:
        raise UserError(str(error)) from error
    if arguments.verify is not None:
        if arguments.source is not None:
            raise UserError("--verify takes the one folder to look at; leave out SRC and DST")
        return _verify(arguments.verify, threads)
    if arguments.folder is None:
        raise UserError("name SRC, the data folder, and DST, the folder to make; see: hvd-imagenet pack --help")
    return _pack(arguments, threads)


def _verify(folder: Path, threads: int) -> int:
    with _bar(unit="B", unit_scale=True) as bar:
        manifest = verify(folder, threads, bar.update)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    print(f"{folder}: all {len(shards)} shards are as they were written ({_size(sum(s.bytes for s in shards))}).")
    return 0


def _pack(arguments: argparse.Namespace, threads: int) -> int:
    from hvd_imagenet.data.packing import PackOptions, pack  # late: pyarrow takes a while
    from hvd_imagenet.data.packing_sources import check_folders, open_sources

    quality = arguments.quality
    if quality is None and arguments.max_side is not None:
        quality = _DEFAULT_QUALITY
    try:
        options = PackOptions(arguments.max_side, quality, arguments.shard_mb)
    except ValueError as error:
        raise UserError(f"--{error}") from error
    check_folders(arguments.source, arguments.folder)
    with _bar(unit="archive") as bar:
        sources = open_sources(arguments.source, bar.update)
    with _bar(unit="img", total=sum(len(source) for source in sources.values())) as bar:
        manifest, made = pack(sources, arguments.folder, options, threads, bar.update)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    train, val = (manifest.splits[split].images for split in ("train", "val"))
    now, before = sum(shard.bytes for shard in shards), sum(shard.source_bytes for shard in shards)
    if made:
        print(f"Packed {train} training and {val} validation images to {arguments.folder}.")
    else:
        print(f"{arguments.folder} already holds these {train} training and {val} validation images.")
    print(f"{len(shards)} shards, {_size(now)}; the images' files: {_size(before)}.")
    print(f"next: {own_command()} train --data {shlex.quote(str(arguments.folder))}")
    return 0


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


_bar = partial(tqdm, dynamic_ncols=True, disable=None)  # on standard error, if that is a terminal
