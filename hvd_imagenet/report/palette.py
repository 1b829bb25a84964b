"""Colours and dashes of groups: after Okabe and Ito's, which colour-blind readers tell apart, 3:1 on white."""

INK, GRID = "#1b1f24", "#d8dce1"
SERIES = ("#0072b2", "#d55e00", "#00875f", "#b5588f", "#9a6b00", "#5b4bb5", "#5f6368")
STYLE_VARIABLES = {INK: "ink", GRID: "rule", **{colour: f"series-{number}" for number, colour in enumerate(SERIES)}}
"""Colours in files, and the variables of the page's style that stand for them, where it may be dark."""

_DASHES = ("-", (0, (6, 2)), (0, (6, 2, 1, 2)))  # dots are for runs that are not finished
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def colour(number: int) -> str:
    """Of a group.

    Args:
        number: counted from 0.

    Example:
        >>> colour(0) == colour(len(SERIES))
        True
    """
    return SERIES[number % len(SERIES)]


def dashes(number: int) -> str | tuple[int, tuple[float, ...]]:
    """Line style of a group: colours come again with other dashes.

    Args:
        number: counted from 0.

    Example:
        >>> dashes(0), dashes(len(SERIES)) == dashes(0)
        ('-', False)
    """
    return _DASHES[number // len(SERIES) % len(_DASHES)]
