import re
from fractions import Fraction

import pytest

from hvd_imagenet.core.minibatch import Minibatch, positive_integer


@pytest.mark.parametrize(
    ("size", "per_worker", "workers"), [(8192, 32, 256), (256, 32, 8), (1, 1, 1), (32, 32, 1), (7, 1, 7), (14, 2, 7)]
)
def test_workers(size, per_worker, workers):
    assert Minibatch(size, per_worker).workers == workers


@pytest.mark.parametrize(
    ("size", "per_worker", "message"),
    [
        (0, 32, "minibatch must be an integer of 1 or more, not 0"),
        (-64, 32, "minibatch must be an integer of 1 or more, not -64"),
        (64.0, 32, "minibatch must be an integer of 1 or more, not 64.0"),
        (True, 1, "minibatch must be an integer of 1 or more, not True"),
        ("64", 32, "minibatch must be an integer of 1 or more, not '64'"),
        (64, 0, "per_worker must be an integer of 1 or more, not 0"),
        (64, -1, "per_worker must be an integer of 1 or more, not -1"),
        (
            100,
            32,
            "minibatch must be a multiple of per_worker, but 100 is not a multiple of 32; nearest: 96 or 128",
        ),
        (20, 32, "minibatch must be a multiple of per_worker, but 20 is not a multiple of 32; nearest: 32"),
    ],
)
def test_bad_minibatches(size, per_worker, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Minibatch(size, per_worker)


def test_positive_integer_accepts_one():
    positive_integer("anything", 1)


@pytest.mark.parametrize(
    ("workers", "processes", "sizes"),
    [
        (7, 3, [3, 2, 2]),
        (12, 5, [3, 3, 2, 2, 2]),
        (12, 4, [3, 3, 3, 3]),
        (12, 1, [12]),
        (7, 7, [1] * 7),
        (256, 3, [86, 85, 85]),
        (1, 1, [1]),
    ],
)
def test_placement_is_contiguous_and_nearly_even(workers, processes, sizes):
    placement = Minibatch(workers * 2, 2).placement(processes)
    assert [len(block) for block in placement] == sizes
    assert [worker for block in placement for worker in block] == list(range(workers))


@pytest.mark.parametrize(
    ("processes", "message"),
    [
        (0, "processes must be an integer of 1 or more, not 0"),
        (-2, "processes must be an integer of 1 or more, not -2"),
        (
            8,
            "processes must not exceed the number of workers, but 8 processes would share 7 workers "
            "(minibatch 14 / per_worker 2); use 7 processes at most or a smaller per_worker",
        ),
    ],
)
def test_bad_placements(processes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Minibatch(14, 2).placement(processes)


@pytest.mark.parametrize(
    ("size", "images", "epochs", "iterations"),
    [
        (8192, 1_281_167, 90, 14_076),  # 14075.32
        (256, 1_281_167, 90, 450_411),  # 450410.3
        (128, 1437, 30, 337),  # 336.8
        (10, 100, 3, 30),  # exact: not one more
        (10, 100, 0.1, 1),  # a tenth, not the binary fraction above it
        (1, 10, 0.7, 7),  # 0.7 * 10 rounds to 7.000000000000001 in binary
        (1, 1000, 1.1, 1100),
        (1, 1000, 2.3, 2300),
        (100, 10, 1, 1),  # kn > N
        (100, 10, 25, 3),  # 250 images
        (10, 100, 1e-05, 1),
    ],
)
def test_iterations(size, images, epochs, iterations):
    assert Minibatch(size, 1).iterations(images, epochs) == iterations


def test_iterations_cover_the_epochs_and_no_iteration_more():
    for tenths in range(1, 200):
        for images in (7, 10, 97):
            count = Minibatch(3, 1).iterations(images, tenths / 10)
            wanted = Fraction(tenths, 10) * images
            assert (count - 1) * 3 < wanted <= count * 3


@pytest.mark.parametrize(
    ("images", "epochs", "message"),
    [
        (0, 1, "images must be an integer of 1 or more, not 0"),
        (10, 0, "epochs must be a finite number above 0, not 0"),
        (10, -1.5, "epochs must be a finite number above 0, not -1.5"),
        (10, float("nan"), "epochs must be a finite number above 0, not nan"),
        (10, float("inf"), "epochs must be a finite number above 0, not inf"),
    ],
)
def test_bad_iterations(images, epochs, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Minibatch(4, 2).iterations(images, epochs)


@pytest.mark.parametrize(
    ("iteration", "size", "images", "epochs"), [(0, 8, 10, 0.0), (5, 8, 10, 4.0), (1, 1, 3, 1 / 3), (1, 30, 10, 3.0)]
)
def test_progress(iteration, size, images, epochs):
    assert Minibatch(size, 1).progress_epochs(iteration, images) == epochs
