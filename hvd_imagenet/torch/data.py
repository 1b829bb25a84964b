"""The reader's images for torch's DataLoader."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from hvd_imagenet.core.sharding import Stream
from hvd_imagenet.data.reader import Reader


class ReaderDataset(IterableDataset[tuple[Tensor, Tensor]]):
    """One batch of n images for each of this process's virtual workers, iteration after iteration.

    Use it as DataLoader(dataset, batch_size=None): the reader's threads decode, and read ahead. Together the processes
    take every image of an epoch once, in an order that does not depend on their number. Each pass over the dataset
    begins at the first of its iterations again.

    Args:
        reader: of the training images.
        stream: images, minibatch and seed.
        workers: this process's virtual workers: stream.minibatch.placement(processes)[rank].
        iterations: which iterations to go through; range(start, stop).

    Raises:
        RuntimeError: at the first batch, in a worker process of DataLoader: a process forked after MPI has started
            crashes or hangs.

    Example:
        >>> from hvd_imagenet.core.minibatch import Minibatch
        >>> from hvd_imagenet.data.synthetic import SyntheticImages, SyntheticReader
        >>> reader, minibatch = SyntheticReader(SyntheticImages(8), image_size_px=4), Minibatch(size=4, per_worker=2)
        >>> dataset = ReaderDataset(reader, Stream(8, minibatch, seed=0), minibatch.placement(1)[0], range(3))
        >>> for pixels, labels in torch.utils.data.DataLoader(dataset, batch_size=None):
        ...     pass
        >>> len(dataset), pixels.shape, pixels.dtype, labels.shape
        (6, torch.Size([2, 4, 4, 3]), torch.uint8, torch.Size([2]))
    """

    def __init__(self, reader: Reader, stream: Stream, workers: range, iterations: range) -> None:
        super().__init__()
        self._reader = reader
        self._stream = stream
        self._workers = workers
        self._iterations = iterations

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if get_worker_info() is not None:
            raise RuntimeError("num_workers must be 0 with ReaderDataset: the reader's threads decode; give it threads")
        requests = (
            self._stream.block(iteration, range(worker, worker + 1))
            for iteration in self._iterations
            for worker in self._workers
        )
        for pixels, labels in self._reader.batches(requests):
            yield torch.from_numpy(pixels), torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self._iterations) * len(self._workers)
