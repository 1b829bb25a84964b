"""The reader's images for model.fit: as a PyDataset on any backend, or as a tf.data.Dataset."""

import threading
from collections.abc import Generator
from contextlib import closing
from typing import Any

import keras
import numpy as np

from hvd_imagenet.core.sharding import Stream
from hvd_imagenet.data.reader import Batch, Reader


def _batches(reader: Reader, stream: Stream, workers: range, iterations: range) -> Generator[Batch, None, None]:
    return reader.batches(stream.block(iteration, workers) for iteration in iterations)


class ReaderSequence(keras.utils.PyDataset):
    """The images of this rank's virtual workers, one batch an iteration.

    Use it as model.fit(sequence, shuffle=False), with epochs and steps_per_epoch if wanted. The stream is shuffled
    already; with Keras' own shuffling every batch is still the right one of its iteration, but is not read ahead.
    Together the ranks take every image of an epoch once, in an order that does not depend on their number.

    Args:
        reader: of the training images.
        stream: images, minibatch and seed.
        workers: this rank's virtual workers: stream.minibatch.placement(ranks)[rank].
        iterations: which iterations to go through; range(start, stop).

    Example:
        >>> from hvd_imagenet.core.minibatch import Minibatch
        >>> from hvd_imagenet.data.synthetic import SyntheticImages, SyntheticReader
        >>> reader, minibatch = SyntheticReader(SyntheticImages(8), image_size_px=4), Minibatch(size=4, per_worker=2)
        >>> sequence = ReaderSequence(reader, Stream(8, minibatch, seed=0), minibatch.placement(1)[0], range(3))
        >>> pixels, labels = sequence[2]
        >>> len(sequence), pixels.shape, pixels.dtype.name, labels.shape
        (3, (4, 4, 4, 3), 'uint8', (4,))
    """

    def __init__(self, reader: Reader, stream: Stream, workers: range, iterations: range) -> None:
        super().__init__()
        self._source = (reader, stream, workers)
        self._iterations = iterations
        self._lock = threading.Lock()  # TensorFlow asks from threads of its own
        self._batches: Generator[Batch, None, None] | None = None
        self._next = -1

    def __len__(self) -> int:
        return len(self._iterations)

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be from 0 to {len(self) - 1}, not {index}")
        with self._lock:
            if self._batches is None or index != self._next:
                self._close()
                self._batches = _batches(*self._source, self._iterations[index:])
            self._next = index + 1
            try:
                return next(self._batches)
            finally:
                if self._next == len(self):
                    self._close()

    def close(self) -> None:
        """Ends the reader's threads, which otherwise live until the last batch is taken."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._batches is not None:
            self._batches.close()
            self._batches = None


def as_tf_data(reader: Reader, stream: Stream, workers: range, iterations: range) -> Any:
    """The images of this rank's virtual workers, one batch an iteration, as a tf.data.Dataset.

    The reader's threads live as long as an iterator over the dataset.

    Args:
        reader: of the training images.
        stream: images, minibatch and seed.
        workers: this rank's virtual workers: stream.minibatch.placement(ranks)[rank].
        iterations: which iterations to go through; range(start, stop).

    Returns:
        A dataset of pixels uint8 (local workers · n, size, size, 3) and labels int64 (local workers · n,).

    Example:
        >>> from hvd_imagenet.core.minibatch import Minibatch
        >>> from hvd_imagenet.data.synthetic import SyntheticImages, SyntheticReader
        >>> reader, minibatch = SyntheticReader(SyntheticImages(8), image_size_px=4), Minibatch(size=4, per_worker=2)
        >>> dataset = as_tf_data(reader, Stream(8, minibatch, seed=0), minibatch.placement(1)[0], range(3))
        >>> int(dataset.cardinality()), dataset.element_spec[0].shape
        (3, TensorShape([4, 4, 4, 3]))
    """
    import tensorflow as tf

    images = len(workers) * stream.minibatch.per_worker

    def generate() -> Generator[Batch, None, None]:
        with closing(_batches(reader, stream, workers, iterations)) as batches:
            yield from batches

    shape = (images, reader.image_size_px, reader.image_size_px, 3)
    signature = (tf.TensorSpec(shape, np.uint8), tf.TensorSpec((images,), np.int64))
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(iterations)))
