"""Some of a set of images, or the same images under other labels."""

import hashlib
from dataclasses import dataclass

import numpy as np

from hvd_imagenet.data.images import Images


@dataclass(frozen=True, eq=False)
class Selection:
    """Chosen images of a set, with labels of their own (see Images).

    Attributes:
        images: the set.
        chosen: int64 (N,), numbers of images in it.
        classes: names of the classes; a label is an index into it.
        labels: int64 (N,), of the chosen images.

    Example:
        >>> from pathlib import Path
        >>> from hvd_imagenet.data.listing import Listing
        >>> every = Listing(Path("/d"), ("a", "b"), np.array([b"a/1.JPEG", b"b/2.JPEG"]), np.array([0, 1]))
        >>> selection = Selection(every, np.array([1]), ("b",), np.array([0]))
        >>> len(selection), selection.name(0)
        (1, '/d/b/2.JPEG')
    """

    images: Images
    chosen: np.ndarray
    classes: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        """N, the number of chosen images."""
        return len(self.chosen)

    def read(self, image: int) -> "bytes | memoryview":
        """The encoded file of one image; raises UserError where it cannot be read."""
        return self.images.read(int(self.chosen[image]))

    def name(self, image: int) -> str:
        """What an image is called in messages: where its file is."""
        return self.images.name(int(self.chosen[image]))

    def fingerprint(self) -> str:
        """Sha256 over the set's fingerprint, the choice and the labels, in hexadecimal."""
        digest = hashlib.sha256(self.images.fingerprint().encode())
        digest.update(self.chosen.astype("<i8").tobytes() + self.labels.astype("<i8").tobytes())
        return digest.hexdigest()
