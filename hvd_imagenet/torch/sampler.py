"""The stream of images for torch's DataLoader."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from hvd_imagenet.core.sharding import Stream


class StreamBatchSampler(Sampler[list[int]]):
    """One batch of n image numbers for each of this process's virtual workers, iteration after iteration.

    Use it as DataLoader(dataset, batch_sampler=…). Together the processes take every image of an epoch once, in an
    order that does not depend on their number.

    Args:
        stream: images, minibatch and seed.
        workers: this process's virtual workers: stream.minibatch.placement(processes)[rank].
        iterations: which iterations to go through; range(start, stop).

    Example:
        >>> from hvd_imagenet.core.minibatch import Minibatch
        >>> minibatch = Minibatch(size=4, per_worker=2)
        >>> sampler = StreamBatchSampler(Stream(4, minibatch, seed=0), minibatch.placement(1)[0], range(1))
        >>> len(sampler), sorted(sum(sampler, []))
        (2, [0, 1, 2, 3])
    """

    def __init__(self, stream: Stream, workers: range, iterations: range) -> None:
        self._stream = stream
        self._workers = workers
        self._iterations = iterations

    def __iter__(self) -> Iterator[list[int]]:
        per_worker = self._stream.minibatch.per_worker
        for iteration in self._iterations:
            ids = self._stream.block(iteration, self._workers)[1].tolist()
            yield from (ids[start : start + per_worker] for start in range(0, len(ids), per_worker))

    def __len__(self) -> int:
        return len(self._iterations) * len(self._workers)
