"""The slowest of some workers: known expectations of the largest of p, and the rules of the option."""

import itertools
import math

import numpy as np
import pytest

from hvd_imagenet.planner.stragglers import Stragglers

# E[max] of p standard normal numbers: 1/√π, 3/(2√π), and from tables (Teichroew 1956; Harter 1961).
LARGEST_NORMAL = {1: 0.0, 2: 1 / math.sqrt(math.pi), 3: 1.5 / math.sqrt(math.pi), 8: 1.42360, 20: 1.86748, 100: 2.50759}


@pytest.mark.parametrize(("workers", "deviations"), LARGEST_NORMAL.items())
def test_normal(workers, deviations):
    assert Stragglers("normal", 0.1).expected_maximum(workers) == pytest.approx(1 + 0.1 * deviations, abs=2e-6)


@pytest.mark.parametrize(
    ("workers", "harmonic"), [(1, 1.0), (2, 1.5), (4, 25 / 12), (101, 5.197278), (10**6, 14.392727)]
)
def test_exponential(workers, harmonic):
    found = Stragglers("exponential", 0.5).expected_maximum(workers)
    assert found == pytest.approx(1 + 0.5 * (harmonic - 1), rel=1e-6)


def test_exponential_has_no_step_where_the_sum_becomes_an_expansion():
    values = [Stragglers("exponential", 0.5).expected_maximum(workers) for workers in (100, 101)]
    assert values[1] - values[0] == pytest.approx(0.5 / 101, rel=1e-6)


@pytest.mark.parametrize("workers", [1, 2, 16, 1000])
def test_lognormal_against_random_draws(workers):
    spread = 0.3
    sigma = math.sqrt(math.log(1 + spread**2))
    draws = np.exp(sigma * np.random.default_rng(1).standard_normal((4000, workers)) - sigma**2 / 2)
    assert draws.std() == pytest.approx(spread, rel=0.05)
    largest = draws.max(axis=1)
    error = 4 * largest.std() / math.sqrt(len(largest))
    assert Stragglers("lognormal", spread).expected_maximum(workers) == pytest.approx(largest.mean(), abs=error)


@pytest.mark.parametrize("kind", ["normal", "lognormal", "exponential"])
def test_more_workers_are_slower_and_equal_ones_are_not(kind):
    workers = [1, 2, 8, 64, 1024, 16_384, 1_000_000]
    paces = [Stragglers(kind, 0.02).expected_maximum(number) for number in workers]
    assert paces[0] == pytest.approx(1, abs=1e-9)
    assert all(slower > faster for faster, slower in itertools.pairwise(paces))
    assert {Stragglers(kind).expected_maximum(number) for number in workers} == {1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uniform:0.1", "there is no 'uniform'"),
        ("normal", "not 'normal'"),
        ("normal:fast", "not 'normal:fast'"),
        ("normal:-0.1", "stragglers' spread must be from 0 to below 1, not -0.1"),
        ("normal:1", "stragglers' spread must be from 0 to below 1, not 1.0"),
        ("lognormal:nan", "stragglers' spread must be from 0 to below 1, not nan"),
    ],
)
def test_messages(text, message):
    with pytest.raises(ValueError) as caught:
        Stragglers.parse(text)
    assert str(caught.value).endswith(message)
