"""How figures of benchmarks are written in README."""

import math
from collections.abc import Callable, Sequence

Form = Callable[..., str]
RATIO: Form = "{:.2f}".format
PERCENT: Form = "{:.2f} %".format
SECONDS: Form = "{:.3f} s".format
NUMBER: Form = "{:,.0f}".format


def three_digits(value: float) -> str:
    """A number, to three digits at least.

    Args:
        value: more than 0.

    Example:
        >>> three_digits(2.4349), three_digits(0.01), three_digits(191.4), three_digits(1234.5)
        ('2.43', '0.0100', '191', '1,234')
    """
    decimals = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{max(0, decimals)}f}"


def milliseconds(value: float) -> str:
    """A time.

    Args:
        value: in seconds.

    Example:
        >>> milliseconds(0.0000234), milliseconds(0.0646)
        ('0.0234 ms', '64.6 ms')
    """
    return f"{three_digits(1e3 * value)} ms"


def share(value: float) -> str:
    """A fraction in percent.

    Args:
        value: of 1.

    Example:
        >>> share(0.9063)
        '90.6 %'
    """
    return f"{100 * value:.1f} %"


def signed_percent(value: float) -> str:
    """A number of percent, with its sign.

    Args:
        value: in percent.

    Example:
        >>> signed_percent(-5.346), signed_percent(0)
        ('−5.3 %', '+0.0 %')
    """
    return f"{value:+.1f} %".replace("-", "−")  # a hyphen would let a narrow column break behind it


def deviation(value: float) -> str:
    """A fraction in percent, with its sign.

    Args:
        value: of 1.

    Example:
        >>> deviation(-0.0745), deviation(0.0002)
        ('−7.4 %', '+0.0 %')
    """
    return signed_percent(100 * value)


def seconds_and_deviation(seconds: float, fraction: float) -> str:
    """A time, and by how much it misses another.

    Args:
        seconds: the time.
        fraction: of the other time.

    Example:
        >>> seconds_and_deviation(0.2369, -0.0745)
        '0.237 s (−7.4 %)'
    """
    return f"{SECONDS(seconds)} ({deviation(fraction)})"


def with_range(form: Form) -> Form:
    """A number, and in brackets the least and the greatest of others.

    Args:
        form: of one number.

    Returns:
        A form of a number and a list.

    Example:
        >>> with_range(RATIO)(0.97, [1.406, 0.912, 1.026])
        '0.97 (0.91–1.41)'
    """

    def written(value: float, others: Sequence[float]) -> str:
        least, greatest = (form(each(others)).split()[0] for each in (min, max))  # without the unit
        return f"{form(value)} ({least}–{greatest})"

    return written


def words(text: str) -> str:
    """What a result file has in words.

    Args:
        text: from the file.

    Example:
        >>> words("link"), words("")
        ('link', '–')
    """
    return text or "–"


def share_and_words(value: float, text: str) -> str:
    """A fraction in percent, and what it is due to.

    Args:
        value: of 1.
        text: from the file.

    Example:
        >>> share_and_words(0.589, "latency")
        '58.9 % (latency)'
    """
    return f"{share(value)} ({words(text)})"


def times_as_many(value: float) -> str:
    """How many times as many.

    Args:
        value: the ratio.

    Example:
        >>> times_as_many(0.13)
        '0.13 times'
    """
    return f"{RATIO(value)} times"


def two_shares(one: float, other: float) -> str:
    """Two fractions in percent.

    Args:
        one: of 1.
        other: of 1.

    Example:
        >>> two_shares(0.8631, 0.9637)
        '86.3 % / 96.4 %'
    """
    return f"{share(one)} / {share(other)}"


def two_numbers(one: float, other: float) -> str:
    """Two whole numbers.

    Args:
        one: the first.
        other: the second.

    Example:
        >>> two_numbers(12.0, 11)
        '12 / 11'
    """
    return f"{NUMBER(one)} / {NUMBER(other)}"


def deviation_and_words(fraction: float, text: str) -> str:
    """A deviation in percent, and where it was found.

    Args:
        fraction: of 1.
        text: from the file.

    Example:
        >>> deviation_and_words(-0.041, "8 ranks")
        '−4.1 % (8 ranks)'
    """
    return f"{deviation(fraction)} ({words(text)})"
