"""The stream of epoch permutations, and which image is whose.

The permutations of epoch 0, 1, 2, … of the N training images stand end to end. Iteration t takes positions
[t·kn, (t+1)·kn); virtual worker j of it the j-th n of them (section 3, remark 4: one permutation per epoch,
divided amongst all workers). Which process hosts a worker does not enter.

The permutation is a keyed bijection, computed for single positions: no list of N numbers is made or stored,
any iteration can be asked for by itself, and no library's version changes it. It is a balanced Feistel network
on pairs (left, right) of digits below a = max(⌈√N⌉, 8), whose rounds are (left, right) ← (right, left + F(right) mod a)
with F from `counter_random.hash64`. It permutes [0, a²); a result of N or more is sent through again until it
falls below N ("cycle walking", Black and Rogaway 2002), and a keyed rotation modulo N follows, without which only
even permutations would come out where a² = N is even. From N = 64 on a² exceeds N by less than 2√N + 1, so few walk.
"""

import math
from dataclasses import dataclass

import numpy as np

from hvd_imagenet.core.counter_random import hash64
from hvd_imagenet.core.minibatch import Minibatch, positive_integer

_ROUNDS = 8
_SMALLEST_DIGIT = 8  # with fewer values a round has too few functions to mix: N = 5 came out visibly uneven
_ROTATION = _ROUNDS  # the counter after those of the rounds
_PERMUTATION = 0x5045524D  # keeps these draws apart from those of augmentation and weights with the same seed


def permute(seed: int, epoch: "int | np.ndarray", images: int, index: np.ndarray) -> np.ndarray:
    """The images that stand at the given indices of an epoch's permutation.

    Args:
        seed: of the run.
        epoch: an integer, or an int64 array of the shape of index.
        images: N.
        index: int64 array of positions within the epoch, each in [0, N).

    Returns:
        int64 array of image ids in [0, N), of the shape of index.

    Raises:
        ValueError: images is not positive, or an index is outside [0, N).

    Example:
        >>> import numpy as np
        >>> order = permute(seed=1, epoch=0, images=10, index=np.arange(10))
        >>> sorted(order.tolist()) == list(range(10))
        True
        >>> bool(permute(1, 0, 10, np.array([7]))[0] == order[7])
        True
    """
    positive_integer("images", images)
    index = np.asarray(index, dtype=np.int64)
    if index.size and (index.min() < 0 or index.max() >= images):
        raise ValueError(f"index must be in [0, {images}), not {index.min()} … {index.max()}")
    epochs = np.broadcast_to(np.asarray(epoch, dtype=np.int64), index.shape)
    digit = max(math.isqrt(images - 1) + 1, _SMALLEST_DIGIT)  # ⌈√N⌉
    result = _feistel(seed, epochs, digit, index)
    while (outside := result >= images).any():
        result[outside] = _feistel(seed, epochs[outside], digit, result[outside])
    rotation = hash64(seed, _PERMUTATION, epochs, _ROTATION) % np.uint64(images)
    return (result + rotation.astype(np.int64)) % images


def _feistel(seed: int, epochs: np.ndarray, digit: int, value: np.ndarray) -> np.ndarray:
    left, right = np.divmod(value, digit)
    for round_number in range(_ROUNDS):
        mixed = hash64(seed, _PERMUTATION, epochs, round_number, right) % np.uint64(digit)
        left, right = right, (left + mixed.astype(np.int64)) % digit
    return left * digit + right


@dataclass(frozen=True)
class Stream:
    """Which images iteration t takes: a pure function of (seed, t).

    Args:
        images: N, number of training images.
        minibatch: kn and n.
        seed: of the run.

    Example:
        >>> stream = Stream(images=6, minibatch=Minibatch(size=4, per_worker=2), seed=3)
        >>> epochs, ids = stream.iteration(1)
        >>> epochs.tolist()
        [0, 0, 1, 1]
        >>> sorted(stream.iteration(0)[1].tolist() + ids[:2].tolist())
        [0, 1, 2, 3, 4, 5]
    """

    images: int
    minibatch: Minibatch
    seed: int

    def __post_init__(self) -> None:
        positive_integer("images", self.images)

    def positions(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The part [start, stop) of the stream.

        Args:
            start: first position, counted from 0 over all epochs.
            stop: position after the last.

        Returns:
            epochs, ids: two int64 arrays of stop − start elements.

        Example:
            >>> stream = Stream(images=5, minibatch=Minibatch(size=1, per_worker=1), seed=0)
            >>> sorted(stream.positions(5, 10)[1].tolist())
            [0, 1, 2, 3, 4]
        """
        epochs, index = np.divmod(np.arange(start, stop, dtype=np.int64), self.images)
        return epochs, permute(self.seed, epochs, self.images, index)

    def iteration(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """The kn images of iteration t, in the order of the workers.

        Args:
            t: iteration, counted from 0.

        Returns:
            epochs, ids: two int64 arrays of kn elements.

        Example:
            >>> len(Stream(images=5, minibatch=Minibatch(size=8, per_worker=2), seed=0).iteration(3)[1])
            8
        """
        return self.block(t, range(self.minibatch.workers))

    def block(self, t: int, workers: range) -> tuple[np.ndarray, np.ndarray]:
        """The images that a contiguous block of virtual workers takes at iteration t.

        Args:
            t: iteration, counted from 0.
            workers: worker indices, as Minibatch.placement gives them.

        Returns:
            epochs, ids: two int64 arrays of n · len(workers) elements.

        Example:
            >>> stream = Stream(images=50, minibatch=Minibatch(size=8, per_worker=2), seed=0)
            >>> bool((stream.block(3, range(1, 3))[1] == stream.iteration(3)[1][2:6]).all())
            True
        """
        first = t * self.minibatch.size
        return self.positions(
            first + workers.start * self.minibatch.per_worker, first + workers.stop * self.minibatch.per_worker
        )
