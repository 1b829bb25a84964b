"""How long an allreduce takes: the α-β-γ models (Thakur et al. 2005), which section 4.1 of the paper counts steps with.

α is the latency of a message, β the seconds a byte takes on a link, γ those that reducing a byte takes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from hvd_imagenet.core.minibatch import positive_integer


@dataclass(frozen=True)
class Link:
    """A way between two ranks, used in both directions at once.

    Args:
        latency_s: α, of a message of no length.
        bytes_per_s: 1/β, what arrives of the payload in each direction.

    Raises:
        ValueError: a latency below 0 or a rate that is not above it.

    Example:
        >>> Link(latency_s=1e-5, bytes_per_s=1e9).shared_by(4).bytes_per_s
        250000000.0
    """

    latency_s: float
    bytes_per_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.latency_s < math.inf:
            raise ValueError(f"latency_s must be a finite number, 0 or more, not {self.latency_s!r}")
        if not self.bytes_per_s > 0:
            raise ValueError(f"bytes_per_s must be above 0, not {self.bytes_per_s!r}")

    def shared_by(self, streams: int) -> "Link":
        """What one of several simultaneous streams has of it."""
        return Link(self.latency_s, self.bytes_per_s / streams)


GLOO_SEGMENT_BYTES = 1 << 20
# (bytes, ranks, link, seconds to reduce a byte) → seconds
Allreduce = Callable[[float, int, Link, float], float]


def lower_bound_s(size_bytes: float, ranks: int, link: Link) -> float:
    """What no allreduce can go below: 2(p−1)/p·b/B, each rank's bytes on its own link.

    Args:
        size_bytes: b.
        ranks: p.
        link: that every rank has.

    Returns:
        Seconds.

    Example:
        >>> round(lower_bound_s(100e6, 32, Link(0, 6.25e9)), 3)
        0.031
    """
    positive_integer("ranks", ranks)
    return 2 * (ranks - 1) / ranks * size_bytes / link.bytes_per_s


def bus_bytes_per_s(size_bytes: float, ranks: int, seconds: float) -> float:
    """The bus bandwidth (b/t)·2(p−1)/p: the rate of the links that would explain a measured time.

    Args:
        size_bytes: b.
        ranks: p.
        seconds: t, measured.

    Returns:
        Bytes per second.

    Example:
        >>> bus_bytes_per_s(100e6, 2, 0.05)
        2000000000.0
    """
    positive_integer("ranks", ranks)
    return size_bytes / seconds * 2 * (ranks - 1) / ranks


def ring_s(size_bytes: float, ranks: int, link: Link, reduce_s_per_byte: float = 0.0) -> float:
    """A ring: 2(p−1)·α + 2(p−1)/p·b·β + (p−1)/p·b·γ.

    Args:
        size_bytes: b.
        ranks: p.
        link: between neighbours.
        reduce_s_per_byte: γ.

    Returns:
        Seconds.

    Example:
        >>> round(ring_s(100e6, 32, Link(1e-4, 6.25e9)), 4)
        0.0372
    """
    return _steps_and_bytes(2 * (ranks - 1), size_bytes, ranks, link, reduce_s_per_byte)


def halving_doubling_s(size_bytes: float, ranks: int, link: Link, reduce_s_per_byte: float = 0.0) -> float:
    """Recursive halving and doubling: 2·log2(p)·α and the bytes of a ring; two steps more unless p is a power of two.

    Args:
        size_bytes: b.
        ranks: p; other numbers than powers of two go in binary blocks.
        link: between any two ranks.
        reduce_s_per_byte: γ.

    Returns:
        Seconds.

    Example:
        >>> round(halving_doubling_s(100e6, 32, Link(1e-4, 6.25e9)), 4)
        0.032
    """
    positive_integer("ranks", ranks)
    doublings = ranks.bit_length() - 1
    steps = 2 * doublings + (0 if ranks == 2**doublings else 2)
    return _steps_and_bytes(steps, size_bytes, ranks, link, reduce_s_per_byte)


def _steps_and_bytes(steps: int, size_bytes: float, ranks: int, link: Link, reduce_s_per_byte: float) -> float:
    link_s = steps * link.latency_s + lower_bound_s(size_bytes, ranks, link)
    return link_s + (ranks - 1) / ranks * size_bytes * reduce_s_per_byte


def flat_ring_s(
    size_bytes: float, hosts: int, per_host: int, inside: Link, between: Link, reduce_s_per_byte: float = 0.0
) -> float:
    """One ring through all N = p·g ranks, which crosses each host's link once: the slower way sets the pace.

    Args:
        size_bytes: b.
        hosts: p.
        per_host: g.
        inside: between ranks of a host.
        between: a host's link, α and β of it.
        reduce_s_per_byte: γ.

    Returns:
        Seconds: 2(N−1)·α + 2(N−1)/N·b·max(β_in, β_out) + (N−1)/N·b·γ.

    Example:
        >>> round(flat_ring_s(100e6, 32, 8, Link(1e-6, 60e9), Link(1e-5, 6.25e9)), 4)
        0.037
    """
    return ring_s(size_bytes, hosts * per_host, _slower(hosts, per_host, inside, between), reduce_s_per_byte)


def gloo_ring_s(
    size_bytes: float, hosts: int, per_host: int, inside: Link, between: Link, reduce_s_per_byte: float = 0.0
) -> float:
    """The same ring as Gloo's allreduce.cc goes it: a rank's part in pairs of segments, which have 1 MiB at most.

    One segment is on its way while the other is late, so that a latency hides behind the bytes of a segment.

    Args:
        size_bytes: b.
        hosts: p.
        per_host: g.
        inside: between ranks of a host.
        between: a host's link, α and β of it.
        reduce_s_per_byte: γ.

    Returns:
        Seconds: 2(N−1)·m·max(2s·β, s·β + α) + (N−1)/N·b·γ, with m pairs of segments of s = b/2mN bytes.

    Example:
        >>> round(gloo_ring_s(100e6, 32, 8, Link(1e-6, 60e9), Link(1e-5, 6.25e9)), 4)
        0.0319
    """
    ranks, slower = hosts * per_host, _slower(hosts, per_host, inside, between)
    pairs = max(1.0, size_bytes / (2 * ranks * GLOO_SEGMENT_BYTES))
    segment_s = size_bytes / (2 * pairs * ranks) / slower.bytes_per_s
    link_s = 2 * (ranks - 1) * pairs * max(2 * segment_s, segment_s + slower.latency_s)
    return link_s + (ranks - 1) / ranks * size_bytes * reduce_s_per_byte


def _slower(hosts: int, per_host: int, inside: Link, between: Link) -> Link:
    """What sets the pace of one ring through all ranks of all hosts."""
    positive_integer("hosts", hosts)
    positive_integer("per_host", per_host)
    ways = ([inside] if per_host > 1 else []) + ([between] if hosts > 1 else [])
    if not ways:
        return Link(0.0, math.inf)
    return Link(max(way.latency_s for way in ways), min(way.bytes_per_s for way in ways))


def hierarchical_s(
    size_bytes: float,
    hosts: int,
    per_host: int,
    inside: Link,
    between: Link,
    reduce_s_per_byte: float = 0.0,
    across: Allreduce = halving_doubling_s,
) -> float:
    """The paper's three phases: reduce inside the hosts, reduce across them, broadcast inside.

    Each of a host's g ranks takes b/g bytes across; their g streams share the host's link.

    Args:
        size_bytes: b.
        hosts: p.
        per_host: g.
        inside: between ranks of a host.
        between: a host's link.
        reduce_s_per_byte: γ.
        across: the algorithm between hosts.

    Returns:
        Seconds: 2(g−1)·α_in + 2(g−1)/g·b·β_in + (g−1)/g·b·γ + T(p; b/g).

    Example:
        >>> round(hierarchical_s(100e6, 32, 8, Link(1e-6, 60e9), Link(1e-5, 6.25e9)), 4)
        0.034
    """
    within = flat_ring_s(size_bytes, 1, per_host, inside, between, reduce_s_per_byte)
    return within + across(size_bytes / per_host, hosts, between.shared_by(per_host), reduce_s_per_byte)
