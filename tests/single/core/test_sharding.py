import itertools
import math
import re

import numpy as np
import pytest
from scipy.stats import chi2

from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.core.sharding import Stream, permute

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 10, 36, 63, 64, 65, 81, 97, 100, 121, 1024, 1437, 10_007, 100_003]
MASK = 2**64 - 1


def _splitmix64(seed, *counters):
    """The documented hash, one integer at a time."""
    state = None
    for key in (seed, *counters):
        state = ((key if state is None else state ^ key) + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state


def _permute_one(seed, epoch, images, index):
    """The documented permutation, one integer at a time."""
    digit = max(math.isqrt(images - 1) + 1, 8)
    value = index
    while True:
        left, right = divmod(value, digit)
        for number in range(8):
            left, right = right, (left + _splitmix64(seed, 0x5045524D, epoch, number, right) % digit) % digit
        value = left * digit + right
        if value < images:
            return (value + _splitmix64(seed, 0x5045524D, epoch, 8) % images) % images


def _fits_uniform(counts):
    """Pearson's χ² against equal expectations; the draws are fixed, so this passes always or never."""
    expected = counts.sum() / counts.size
    assert expected >= 5
    statistic = ((counts - expected) ** 2 / expected).sum()
    p = chi2.sf(statistic, counts.size - 1)
    return 1e-4 < p < 1 - 1e-4


@pytest.mark.parametrize("images", SIZES)
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (0, 1), (1, 0), (2**63, 89), (-5, 2)])
def test_every_epoch_is_a_permutation(images, seed, epoch):
    order = permute(seed, epoch, images, np.arange(images))
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(images))


@pytest.mark.parametrize("images", [1, 2, 3, 10, 63, 64, 65, 1437, 1_281_167])
def test_agrees_with_the_documented_algorithm(images):
    index = np.unique(np.linspace(0, images - 1, 20).astype(np.int64))
    for seed, epoch in [(0, 0), (3, 17), (2**40 + 1, 89)]:
        assert permute(seed, epoch, images, index).tolist() == [
            _permute_one(seed, epoch, images, i) for i in index.tolist()
        ]


# A change of these values changes the order of every run that was ever made.
@pytest.mark.parametrize(
    ("seed", "epoch", "images", "index", "expected"),
    [
        (0, 0, 10, range(10), [3, 5, 9, 7, 1, 6, 0, 2, 4, 8]),
        (0, 1, 10, range(10), [9, 1, 7, 3, 4, 5, 0, 6, 2, 8]),
        (1, 0, 10, range(10), [4, 1, 5, 0, 9, 8, 3, 2, 7, 6]),
        (7, 3, 1437, range(6), [2, 1309, 278, 672, 851, 53]),
        (42, 89, 1_281_167, [0, 1, 2, 640_000, 1_281_166], [691050, 779391, 464146, 958594, 494401]),
    ],
)
def test_frozen_values(seed, epoch, images, index, expected):
    assert permute(seed, epoch, images, np.array(index)).tolist() == expected


def test_a_frozen_iteration():
    epochs, ids = Stream(100, Minibatch(6, 2), seed=5).iteration(1000)
    assert epochs.tolist() == [60] * 6
    assert ids.tolist() == [28, 75, 41, 74, 5, 86]


def test_positions_that_walk_do_not_depend_on_what_is_asked_with_them():
    images = 66  # of 81: one in five results is sent through again
    whole = permute(3, 0, images, np.arange(images))
    assert [int(permute(3, 0, images, np.array([i]))[0]) for i in range(images)] == whole.tolist()
    epochs = np.arange(500)
    together = permute(3, epochs, images, np.full(500, 7))
    assert [int(permute(3, int(epoch), images, np.array([7]))[0]) for epoch in epochs] == together.tolist()


def test_epochs_and_seeds_differ():
    orders = [permute(seed, epoch, 1437, np.arange(1437)) for seed in range(4) for epoch in range(4)]
    for one, other in itertools.combinations(orders, 2):
        assert (one == other).sum() < 12  # one is expected, Poisson


@pytest.mark.parametrize("images", [2, 3, 4, 5])
def test_all_permutations_of_few_images_are_equally_frequent(images):
    epochs = 500 * math.factorial(images)
    ids = permute(1, np.repeat(np.arange(epochs), images), images, np.tile(np.arange(images), epochs))
    _, counts = np.unique(ids.reshape(epochs, images), axis=0, return_counts=True)
    assert counts.size == math.factorial(images)
    assert _fits_uniform(counts)


@pytest.mark.parametrize(("images", "index"), [(5, 0), (64, 63), (97, 50), (1437, 0), (1437, 1436), (1437, 700)])
def test_every_image_is_equally_likely_at_a_position(images, index):
    epochs = 30 * images
    ids = permute(2, np.arange(epochs), images, np.full(epochs, index))
    assert _fits_uniform(np.bincount(ids, minlength=images))


@pytest.mark.parametrize(("images", "index"), [(3, 1), (11, 0), (11, 10), (37, 5), (64, 9)])
def test_successive_epochs_are_independent(images, index):
    epochs = 30 * images**2
    ids = permute(4, np.arange(epochs + 1), images, np.full(epochs + 1, index))
    assert _fits_uniform(np.bincount(ids[:-1] * images + ids[1:], minlength=images**2))


@pytest.mark.parametrize("images", [11, 37, 64])
def test_neighbours_within_an_epoch_are_equally_likely_pairs(images):
    epochs = 30 * images * (images - 1)
    first = permute(6, np.arange(epochs), images, np.full(epochs, 3))
    second = permute(6, np.arange(epochs), images, np.full(epochs, 4))
    counts = np.bincount(first * images + second, minlength=images**2).reshape(images, images)
    assert not np.diag(counts).any()
    assert _fits_uniform(counts[~np.eye(images, dtype=bool)])


def test_even_and_odd_permutations_come_out_where_the_images_are_a_square():
    odd = 0
    for epoch in range(400):
        order = permute(0, epoch, 64, np.arange(64)).tolist()
        seen, cycles = set(), 0
        for start in range(64):
            cycles += start not in seen
            while start not in seen:
                seen.add(start)
                start = order[start]
        odd += (64 - cycles) % 2
    assert 150 < odd < 250


@pytest.mark.parametrize(
    ("images", "size", "per_worker"), [(10, 4, 2), (10, 5, 5), (7, 3, 1), (10, 64, 8), (1, 3, 1), (1437, 128, 32)]
)
def test_an_iteration_asked_for_by_itself_is_what_walking_gives(images, size, per_worker):
    stream = Stream(images, Minibatch(size, per_worker), seed=9)
    passes = 4 * size // images + 4
    walk = np.concatenate([permute(9, epoch, images, np.arange(images)) for epoch in range(passes)])
    numbers = np.repeat(np.arange(passes), images)
    for t in reversed(range(4)):
        epochs, ids = stream.iteration(t)
        assert ids.tolist() == walk[t * size : (t + 1) * size].tolist()
        assert epochs.tolist() == numbers[t * size : (t + 1) * size].tolist()


def test_a_minibatch_larger_than_the_data_takes_every_image_equally_often():
    epochs, ids = Stream(5, Minibatch(20, 4), seed=0).iteration(2)
    assert np.bincount(ids).tolist() == [4] * 5
    assert epochs.tolist() == [8] * 5 + [9] * 5 + [10] * 5 + [11] * 5


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 5, 12])
def test_the_blocks_of_any_placement_make_the_iteration(processes):
    minibatch = Minibatch(36, 3)
    stream = Stream(50, minibatch, seed=1)
    for t in (0, 1, 1000):
        blocks = [stream.block(t, workers) for workers in minibatch.placement(processes)]
        whole = stream.iteration(t)
        assert np.concatenate([epochs for epochs, _ in blocks]).tolist() == whole[0].tolist()
        assert np.concatenate([ids for _, ids in blocks]).tolist() == whole[1].tolist()


def test_worker_j_takes_the_jth_n_images():
    stream = Stream(50, Minibatch(12, 3), seed=1)
    ids = stream.iteration(3)[1]
    for worker in range(4):
        assert stream.block(3, range(worker, worker + 1))[1].tolist() == ids[3 * worker : 3 * worker + 3].tolist()


def test_an_empty_span_is_empty():
    epochs, ids = Stream(50, Minibatch(4, 2), seed=0).positions(7, 7)
    assert epochs.size == ids.size == 0


def test_a_far_iteration_of_imagenet_needs_no_walk():
    epochs, ids = Stream(1_281_167, Minibatch(8192, 32), seed=0).iteration(10**9)
    assert epochs[0] == 10**9 * 8192 // 1_281_167
    assert len(set(ids.tolist())) == 8192


@pytest.mark.parametrize(
    ("images", "index", "message"),
    [
        (0, [0], "images must be an integer of 1 or more, not 0"),
        (10, [3, 10], "index must be in [0, 10), not 3 … 10"),
        (10, [-1, 3], "index must be in [0, 10), not -1 … 3"),
    ],
)
def test_messages(images, index, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        permute(0, 0, images, np.array(index))


def test_a_stream_of_nothing():
    with pytest.raises(ValueError, match=r"^images must be an integer of 1 or more, not 0$"):
        Stream(0, Minibatch(2, 1), seed=0)
