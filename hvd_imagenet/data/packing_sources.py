"""Where the images to pack come from: a data folder, or ILSVRC's archives as they are published."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from hvd_imagenet.data.imagenet_tars import TRAIN_TAR, VAL_TAR, open_train_tar, open_val_tar
from hvd_imagenet.data.listing import list_dataset, list_images
from hvd_imagenet.data.packing import Source
from hvd_imagenet.errors import UserError


def check_folders(source: Path, folder: Path) -> None:
    """Raises UserError where a pack would be written over or into its source.

    Args:
        source: SRC.
        folder: DST; it need not exist.

    Raises:
        UserError: DST is SRC, lies in it, or is a file.

    Example:
        >>> check_folders(Path("/data/imagenet"), Path("/data/imagenet-packed"))
    """
    if folder.is_file():
        raise UserError(f"{folder}: is a file; name a folder that does not exist yet")
    if folder.resolve() == source.resolve():
        raise UserError(f"{folder}: is SRC and DST at once; name another folder to make")
    if folder.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{folder}: lies in the folder that is to be packed, {source}; name one beside it")


def open_sources(source: Path, progress: Callable[[int], object] = lambda archives: None) -> dict[str, Source]:
    """Finds out what is in a folder.

    Args:
        source: what `train --data` takes, or a folder with ILSVRC2012_img_train.tar and the validation images, as a
            folder val or as ILSVRC2012_img_val.tar with a file that says what is in them.
        progress: called with 1 after every archive of the train tar.

    Returns:
        The images of "train" and "val".

    Raises:
        UserError: it is neither, or a split is missing or empty.
    """
    if not (source / TRAIN_TAR).is_file():
        train, val = list_dataset(source)
        return {"train": cast(Source, train), "val": cast(Source, val)}
    from_tar = open_train_tar(source / TRAIN_TAR, progress)
    if (source / VAL_TAR).is_file():
        return {"train": from_tar, "val": open_val_tar(source / VAL_TAR, from_tar.classes)}
    if not (source / "val").is_dir():
        raise UserError(f"{source}: has {TRAIN_TAR}, but neither {VAL_TAR} nor a folder 'val'; put one of them there")
    return {"train": from_tar, "val": list_images(source / "val", from_tar.classes)}
