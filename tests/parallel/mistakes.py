"""What a user's mistake must look like on several ranks, and one that is met in mid-run."""

import shutil
from pathlib import Path

from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.core.sharding import Stream
from hvd_imagenet.data.listing import list_dataset


def is_one_error(result: tuple[int, str, str], *parts: str) -> None:
    """Exit code 2 and one line on standard error, with some parts in it.

    Args:
        result: exit code, standard output and standard error.
        parts: of the line.
    """
    code, output, errors = result
    assert code == 2, errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("error: ")
    assert "Traceback" not in output + errors
    for part in parts:
        assert part in errors


def damage_an_image_of_rank_1(source: Path, data: Path, minibatch: Minibatch) -> Path:
    """Copies a data folder, and breaks an image that only rank 1 of 2 meets, in iteration 2 with the seed 0.

    Args:
        source: the folder.
        data: the copy.
        minibatch: of the run.

    Returns:
        The image.
    """
    shutil.copytree(source, data)
    listing = list_dataset(data)[0]
    of_rank_1 = Stream(len(listing), minibatch, seed=0).block(2, minibatch.placement(2)[1])[1]
    broken = Path(listing.path(of_rank_1[5]))
    broken.write_bytes(b"no image")
    return broken
