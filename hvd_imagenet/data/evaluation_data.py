"""Images to validate a trained network with: whatever folder has its classes, or some of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hvd_imagenet.data.class_folders import LAYOUT, few
from hvd_imagenet.data.images import Images
from hvd_imagenet.data.listing import check_data_folder, list_images
from hvd_imagenet.data.listing_cache import cached_scan
from hvd_imagenet.data.packed import is_packed, open_packed
from hvd_imagenet.data.selection import Selection
from hvd_imagenet.errors import UserError


@dataclass(frozen=True)
class Matched:
    """How the classes of images were found among a network's outputs.

    Args:
        classes: of the images.
        outputs: of the network.
        by: "name", "number" (folders named 0, 1, …) or "order" (of the folders' names).

    Example:
        >>> str(Matched(4, 4, "name")), str(Matched(200, 1000, "name"))
        ('all 4 classes by name', '200 of 1,000 classes by name (the network chooses among all 1,000)')
    """

    classes: int
    outputs: int
    by: str

    def __str__(self) -> str:
        """For a line to the user."""
        every = f"all {self.outputs:,}"
        if self.classes == self.outputs:
            return f"{every} classes by {self.by}"
        return f"{self.classes:,} of {self.outputs:,} classes by {self.by} (the network chooses among {every})"


def list_evaluation(data: Path, outputs: int, trained: Sequence[str] | None, what: str) -> tuple[Images, Matched]:
    """Finds the images of a data folder whose classes a network knows.

    Args:
        data: holds val/CLASS/*.JPEG, or CLASS/*.JPEG itself, or is packed. CLASS is a class that the network was
            trained on, or its number among the sorted ones (ImageNetV2's 0 to 999).
        outputs: number of classes that the network tells apart.
        trained: their names; None where the checkpoint is of a version that did not keep them.
        what: has the network, for messages.

    Returns:
        The images, with the network's classes, and how they were matched.

    Raises:
        UserError: a folder is missing or empty, or its classes are not the network's.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     (Path(name) / "cat").mkdir()
        ...     (Path(name) / "cat" / "1.JPEG").touch()
        ...     images, matched = list_evaluation(Path(name), 3, ["ant", "bee", "cat"], "checkpoint c")
        >>> images.labels.tolist(), matched.classes
        ([2], 1)
    """
    check_data_folder(data)
    if is_packed(data):
        return _of_packed(data, outputs, trained, what)
    folder = data / "val" if (data / "val").is_dir() else data
    if folder is data and (data / "train").is_dir() and "train" not in (trained or ()):
        raise UserError(f"data folder {data}: has no folder 'val'; {LAYOUT}")
    if trained is None and folder is not data and (data / "train").is_dir():
        trained = cached_scan(data / "train").classes
        if len(trained) != outputs:
            raise UserError(_other_number(what, outputs, data, len(trained)))
    found = cached_scan(folder).classes
    names, by = _outputs_by_folder(found, outputs, trained, what, folder)
    listing = replace(list_images(folder, names), classes=tuple(names if trained is None else trained))
    return listing, Matched(len(np.unique(listing.labels)), outputs, by)


def _outputs_by_folder(
    found: Sequence[str], outputs: int, trained: Sequence[str] | None, what: str, folder: Path
) -> tuple[Sequence[str], str]:
    """The folder that each output of the network belongs to, and how that was found."""
    if trained is not None and (not found or set(found) & set(trained)):
        return trained, "name"  # list_images tells of folders that are not among them
    if found and all(re.fullmatch("0|[1-9][0-9]*", name) for name in found):
        span = max(map(int, found)) + 1
        if span != outputs:
            raise UserError(_other_number(what, outputs, folder, f"folders with numbers up to {span - 1}"))
        return [str(number) for number in range(outputs)], "number"
    if trained is not None:
        raise UserError(
            f"{folder}: class {few(found)} is not among the {outputs} classes of {what}, such as {trained[0]!r}; "
            f"give a folder whose class folders have these names"
        )
    if len(found) != outputs:
        raise UserError(_other_number(what, outputs, folder, len(found)))
    return found, "order"


def _other_number(what: str, outputs: int, where: Path, has: "int | str") -> str:
    return f"{what} tells {outputs} classes apart, but {where} has {has}; give the data that it was trained on"


def _of_packed(data: Path, outputs: int, trained: Sequence[str] | None, what: str) -> tuple[Images, Matched]:
    images = open_packed(data)[1]
    there = images.classes
    if trained is None and len(there) != outputs:
        raise UserError(_other_number(what, outputs, data, len(there)))
    label_of = {name: label for label, name in enumerate(there if trained is None else trained)}
    unknown = [there[label] for label in np.unique(images.labels).tolist() if there[label] not in label_of]
    if unknown:
        raise UserError(f"{data}: class {few(unknown)} is not among the {outputs} classes of {what}; pack others")
    labels = np.array([label_of.get(name, -1) for name in there], dtype=np.int64)[images.labels]
    matched = Matched(len(np.unique(labels)), outputs, "name" if trained is not None else "order")
    if there == tuple(label_of):
        return images, matched
    return Selection(images, np.arange(len(images)), tuple(label_of), labels), matched
