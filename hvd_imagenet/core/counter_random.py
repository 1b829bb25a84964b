"""Counter-based random numbers: a value is a pure function of its integer keys.

numpy promises the stream of its bit generators but not the values of its distributions, and both must be
walked through in order. Here any draw can be asked for by itself, on any process, in any version.
"""

import numpy as np

# splitmix64 (Steele, Lea, Flood 2014: "Fast splittable pseudorandom number generators").
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def _finalise(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = state ^ (state >> np.uint64(31))
    return mixed


def _as_uint64(key: "int | np.ndarray") -> np.ndarray:
    if isinstance(key, int):
        return np.array([key & _MASK], dtype=np.uint64)
    return np.atleast_1d(np.asarray(key)).astype(np.uint64)


def hash64(seed: "int | np.ndarray", *counters: "int | np.ndarray") -> np.ndarray:
    """64 well-mixed bits for every combination of keys.

    Args:
        seed: an integer, or an array of integers.
        *counters: integers or integer arrays of shapes that broadcast with each other.

    Returns:
        uint64 array of the broadcast shape (at least one-dimensional).

    Example:
        >>> int(hash64(0)[0]) == 0xE220A8397B1DCDAF  # the first value of splitmix64 from state 0
        True
        >>> bool((hash64(1, 2) == hash64(2, 1)).any())
        False
    """
    with np.errstate(over="ignore"):
        state = _finalise(_as_uint64(seed) + np.uint64(_GOLDEN_GAMMA))
        for counter in counters:
            state = _finalise((state ^ _as_uint64(counter)) + np.uint64(_GOLDEN_GAMMA))
    return state


def uniform(seed: "int | np.ndarray", *counters: "int | np.ndarray") -> np.ndarray:
    """Uniform numbers in [0, 1), each a pure function of its integer keys.

    Args:
        seed: an integer, or an array of integers.
        *counters: integers or integer arrays of shapes that broadcast with each other.

    Returns:
        float64 array of the broadcast shape (at least one-dimensional), with 53 random bits each.

    Example:
        >>> import numpy as np
        >>> draws = uniform(7, 3, np.arange(100_000))
        >>> bool(abs(draws.mean() - 0.5) < 0.005 and draws.min() >= 0 and draws.max() < 1)
        True
        >>> bool(uniform(7, 3, 5)[0] == draws[5])
        True
    """
    return (hash64(seed, *counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(seed: int, *counters: "int | np.ndarray") -> np.ndarray:
    """Standard normal numbers (Box-Muller), each a pure function of its integer keys.

    Args:
        seed: an integer.
        *counters: integers or integer arrays of shapes that broadcast with each other.

    Returns:
        float64 array of the broadcast shape (at least one-dimensional).

    Example:
        >>> import numpy as np
        >>> draws = normal(7, np.arange(100_000))
        >>> bool(abs(draws.mean()) < 0.01 and abs(draws.std() - 1) < 0.01)
        True
    """
    radius = np.sqrt(-2.0 * np.log1p(-uniform(seed, *counters, 0)))
    draws: np.ndarray = radius * np.cos(2.0 * np.pi * uniform(seed, *counters, 1))
    return draws
