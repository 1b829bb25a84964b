import numpy as np
import pytest
from scipy.stats import chi2, kstest

from hvd_imagenet.core.counter_random import hash64, normal, uniform

GAMMA = 0x9E3779B97F4A7C15
# The published generator's first values from the states 0 and 1234567.
SPLITMIX64 = {
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC],
    1234567: [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431],
}


@pytest.mark.parametrize("state", SPLITMIX64)
def test_known_values_of_splitmix64(state):
    assert [int(hash64((state + step * GAMMA) % 2**64)[0]) for step in range(4)] == SPLITMIX64[state]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ((1,), 0x910A2DEC89025CC1),
        ((0, 0), 0xA706DD2F4D197E6F),
        ((1, 2, 3), 0xD0734750FDE362B3),
        ((-1,), 0xE4D971771B652C20),
        ((1, -2), 0xC23E1144AD1ECFF7),
    ],
)
def test_frozen_values(keys, expected):
    assert int(hash64(*keys)[0]) == expected
    assert int(hash64(*(np.array([key], np.int64) for key in keys))[0]) == expected


def test_frozen_draws():
    assert float(uniform(7, 3, 5)[0]) == 0.962034122063467
    # Logarithm and cosine may differ by a last bit between libraries.
    assert float(normal(7, 5)[0]) == pytest.approx(1.0819248960618226, rel=1e-14)
    assert float(normal(0, 1, 2)[0]) == pytest.approx(0.38092366736369154, rel=1e-14)


def test_keys_are_taken_modulo_2_to_the_64():
    assert hash64(2**64 + 3, -1)[0] == hash64(3, 2**64 - 1)[0]


def test_counters_broadcast():
    rows, columns = np.arange(3)[:, None], np.arange(4)
    whole = hash64(5, rows, columns)
    assert whole.shape == (3, 4)
    assert whole.dtype == np.uint64
    assert all(whole[i, j] == hash64(5, i, j)[0] for i in range(3) for j in range(4))
    assert hash64(np.arange(6), 1).shape == (6,)
    assert uniform(5, rows, columns).shape == normal(5, rows, columns).shape == (3, 4)


def test_the_order_of_counters_and_their_number_matter():
    values = [int(hash64(*keys)[0]) for keys in [(1, 2), (2, 1), (1, 2, 0), (1, 0, 2), (0, 1, 2), (1,), (3,)]]
    assert len(set(values)) == len(values)


def test_no_warning_of_overflow():
    with np.errstate(all="raise"):
        hash64(2**64 - 1, np.arange(10))
        normal(2**64 - 1, np.arange(10))


def test_uniform_numbers_are_uniform():
    draws = uniform(11, np.arange(100_000))
    assert draws.dtype == np.float64
    assert 0 <= draws.min() < 1e-3
    assert 1 - 1e-3 < draws.max() < 1
    assert kstest(draws, "uniform").pvalue > 1e-3
    counts, _, _ = np.histogram2d(draws[:-1], draws[1:], bins=20, range=[[0, 1], [0, 1]])
    assert chi2.sf(((counts - counts.mean()) ** 2 / counts.mean()).sum(), 399) > 1e-3


def test_all_bits_are_balanced():
    bits = np.unpackbits(hash64(3, np.arange(20_000)).view(np.uint8)).reshape(-1, 64)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.016  # 4.5 deviations of 64 bits


def test_normal_numbers_are_normal():
    draws = normal(11, np.arange(100_000))
    assert draws.dtype == np.float64
    assert np.isfinite(draws).all()
    assert kstest(draws, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.01
    assert abs((draws**4).mean() - 3) < 0.1
