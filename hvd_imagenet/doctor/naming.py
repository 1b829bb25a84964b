"""How hosts are named in a message."""

from collections.abc import Collection, Mapping, Sequence

_MOST_NAMED = 4


def named(hosts: Sequence[str]) -> str:
    """Some hosts by name, many by their number.

    Args:
        hosts: at least one.

    Returns:
        Words for a message.

    Example:
        >>> named(["node1", "node2"])
        'node1, node2'
        >>> named([f"node{number}" for number in range(1, 17)])
        'node1, node2, node3 and 13 others'
    """
    if len(hosts) <= _MOST_NAMED:
        return ", ".join(hosts)
    shown = hosts[: _MOST_NAMED - 1]
    return f"{', '.join(shown)} and {len(hosts) - len(shown)} others"


def among(hosts: Sequence[str], everyone: Collection[str]) -> str:
    """Some hosts of all of them.

    Args:
        hosts: at least one.
        everyone: all hosts.

    Returns:
        Words for a message.

    Example:
        >>> among(["a", "b"], ["a", "b", "c"]), among(["a", "b"], ["a", "b"]), among(["a"], ["a"])
        ('a, b', 'all 2 hosts', 'a')
    """
    return f"all {len(hosts)} hosts" if 1 < len(hosts) == len(everyone) else named(hosts)


def by_value(values: Mapping[str, str]) -> str:
    """Which hosts have which value, the most common one first.

    Args:
        values: host → value.

    Returns:
        Words for a message.

    Example:
        >>> by_value({"a": "2.14", "b": "2.13", "c": "2.13"})
        '2.13 on b, c; 2.14 on a'
    """
    hosts_of: dict[str, list[str]] = {}
    for host, value in values.items():
        hosts_of.setdefault(value, []).append(host)
    ordered = sorted(hosts_of.items(), key=lambda item: -len(item[1]))
    return "; ".join(f"{value} on {named(hosts)}" for value, hosts in ordered)
