"""A part of the training images, by a list of files such as those published for 1 % and 10 % of ImageNet."""

import os
from collections import Counter
from pathlib import Path

import numpy as np

from hvd_imagenet.data.class_folders import few
from hvd_imagenet.errors import UserError


def listed_images(paths: np.ndarray, file: Path) -> np.ndarray:
    """The images that a file lists, one a line: `n01440764_10026.JPEG` or `n01440764/n01440764_10026.JPEG`.

    What stands before the class (`train/n01440764/…`), empty lines and repetitions are passed over.

    Args:
        paths: bytes array (N,), `CLASS/FILE` of the training images.
        file: the list.

    Returns:
        int64 array, ascending: where the listed images are in `paths`. The list's own order has no effect.

    Raises:
        UserError: it cannot be read, lists nothing, or lists what is not there or there more than once.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w") as file:
        ...     print("3.JPEG", "train/a/1.JPEG", sep=os.linesep, file=file, flush=True)
        ...     listed_images(np.array([b"a/1.JPEG", b"a/2.JPEG", b"b/3.JPEG"]), Path(file.name)).tolist()
        [0, 2]
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"--train-list {file}: cannot be read ({error.strerror})") from error
    wanted = {b"/".join(line.strip().split(b"/")[-2:]) for line in lines if line.strip()}
    if not wanted:
        raise UserError(f"--train-list {file}: is empty; wanted: a line such as n01440764_10026.JPEG for each image")
    known: list[bytes] = paths.tolist()
    names = [path.rpartition(b"/")[2] for path in known]
    chosen = [image for image, name in enumerate(names) if name in wanted or known[image] in wanted]
    _check(wanted, [known[image] for image in chosen], len(known), file)
    return np.array(chosen, dtype=np.int64)


def _check(wanted: set[bytes], chosen: list[bytes], images: int, file: Path) -> None:
    """Raises UserError unless each of the wanted names is that of one image."""
    times = Counter(path.rpartition(b"/")[2] for path in chosen)
    unknown = sorted(wanted - set(chosen) - set(times))
    if unknown:
        raise UserError(
            f"--train-list {file}: {few([os.fsdecode(name) for name in unknown])} is not among the {images:,} training "
            f"images; take the list that was made for them"
        )
    twice = sorted(name for name in wanted if b"/" not in name and times[name] > 1)
    if twice:
        raise UserError(
            f"--train-list {file}: {few([os.fsdecode(name) for name in twice])} is the name of several training "
            f"images; write CLASS/FILE"
        )
