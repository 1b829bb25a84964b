"""What the reader needs of a set of images, wherever they are kept."""

from typing import Protocol

import numpy as np


class Images(Protocol):
    """Encoded images with labels: a folder's listing, or packed files.

    Attributes:
        classes: names of the classes; a label is an index into it.
        labels: int64 (N,).
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""

    def __len__(self) -> int:
        """N, the number of images."""

    def read(self, image: int) -> "bytes | memoryview":
        """The encoded file of one image; raises UserError where it cannot be read. Threads call it at once."""

    def name(self, image: int) -> str:
        """What an image is called in messages: where its file is."""

    def fingerprint(self) -> str:
        """What a checkpoint stores to notice that it is resumed on other data."""
