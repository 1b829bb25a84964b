"""The cost models against tables computed by hand: α = 2 s, 4 bytes/s and γ = 1/8 s a byte, 24 bytes."""

import math

import pytest

from hvd_imagenet.planner.costs import (
    Link,
    bus_bytes_per_s,
    flat_ring_s,
    gloo_ring_s,
    halving_doubling_s,
    hierarchical_s,
    lower_bound_s,
    ring_s,
)

LINK = Link(latency_s=2.0, bytes_per_s=4.0)
GAMMA = 0.125


@pytest.mark.parametrize(
    ("ranks", "steps", "link_s", "reduce_s"),
    [(1, 0, 0.0, 0.0), (2, 2, 6.0, 1.5), (3, 4, 8.0, 2.0), (4, 6, 9.0, 2.25), (6, 10, 10.0, 2.5), (8, 14, 10.5, 2.625)],
)
def test_ring(ranks, steps, link_s, reduce_s):
    assert ring_s(24, ranks, LINK) == pytest.approx(2 * steps + link_s)
    assert ring_s(24, ranks, LINK, GAMMA) == pytest.approx(2 * steps + link_s + reduce_s)
    assert lower_bound_s(24, ranks, LINK) == pytest.approx(link_s)


# 2·log2(p) steps; two more for what is no power of two (section 4.1: binary blocks).
@pytest.mark.parametrize(
    ("ranks", "steps"), [(1, 0), (2, 2), (3, 4), (4, 4), (5, 6), (6, 6), (7, 6), (8, 6), (32, 10), (44, 12), (2048, 22)]
)
def test_halving_doubling(ranks, steps):
    bytes_s = 12 * (ranks - 1) / ranks + 3 * (ranks - 1) / ranks
    assert halving_doubling_s(24, ranks, LINK, GAMMA) == pytest.approx(2 * steps + bytes_s)


INSIDE, BETWEEN = Link(1.0, 8.0), Link(3.0, 2.0)


@pytest.mark.parametrize(
    ("hosts", "per_host", "seconds"),
    [
        (1, 1, 0.0),
        (1, 2, 2 * 1 + 24 / 8 + 1.5),  # inside alone
        (1, 4, 6 * 1 + 1.5 * 24 / 8 + 2.25),
        (2, 1, 2 * 3 + 24 / 2 + 1.5),  # between alone
        (2, 2, 6 * 3 + 1.5 * 24 / 2 + 2.25),  # four ranks at the pace of the slower way
    ],
)
def test_flat_ring_over_hosts(hosts, per_host, seconds):
    assert flat_ring_s(24, hosts, per_host, INSIDE, BETWEEN, GAMMA) == pytest.approx(seconds)


# Segments of b/2N bytes, two at a time: the bytes of both, or of one and its latency.
@pytest.mark.parametrize(
    ("hosts", "per_host", "seconds"),
    [
        (1, 1, 0.0),
        (1, 2, 2 * max(2 * 0.75, 0.75 + 1) + 1.5),
        (2, 1, 2 * max(2 * 3, 3 + 3) + 1.5),
        (2, 2, 6 * max(2 * 1.5, 1.5 + 3) + 2.25),
        (4, 3, 22 * max(2 * 0.5, 0.5 + 3) + 2.75),
    ],
)
def test_gloo_ring_over_hosts(hosts, per_host, seconds):
    assert gloo_ring_s(24, hosts, per_host, INSIDE, BETWEEN, GAMMA) == pytest.approx(seconds)


# Two ranks: each has 8 MiB, in four pairs of segments of one MiB, which a link carries in a second.
@pytest.mark.parametrize(("latency_s", "pair_s"), [(0.0, 2.0), (1.0, 2.0), (3.0, 4.0)])
def test_segments_of_the_gloo_ring_have_one_mib_at_most(latency_s, pair_s):
    assert gloo_ring_s(2**24, 2, 1, INSIDE, Link(latency_s, 2**20)) == pytest.approx(2 * 4 * pair_s)


@pytest.mark.parametrize(
    ("hosts", "per_host", "across", "seconds"),
    [
        (1, 2, ring_s, 2 + 3 + 1.5),
        (2, 1, ring_s, 6 + 12 + 1.5),
        # inside 2 + 3 + 1.5; two streams of 12 bytes at 1 byte/s each: 6 + 12 + 0.75
        (2, 2, ring_s, 6.5 + 18.75),
        # three streams of 8 bytes over 4 hosts at 2/3 byte/s each: steps 4 or 6
        (4, 3, halving_doubling_s, (4 + 4 + 2) + (12 + 18 + 0.75)),
        (4, 3, ring_s, (4 + 4 + 2) + (18 + 18 + 0.75)),
    ],
)
def test_hierarchical(hosts, per_host, across, seconds):
    assert hierarchical_s(24, hosts, per_host, INSIDE, BETWEEN, GAMMA, across) == pytest.approx(seconds)


def test_the_papers_estimates():
    link = Link(0.0, 6.25e9)
    assert lower_bound_s(100e6, 32, link) == pytest.approx(0.031)
    # Section 4.1: on 32 servers halving/doubling is three times as fast as the ring, at the profile's latency.
    slow = Link(1.44e-5, 6.25e9 * 0.853)
    tensor_bytes = 102_228_128 / 161
    assert ring_s(tensor_bytes, 32, slow) / halving_doubling_s(tensor_bytes, 32, slow) == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize("ranks", [2, 3, 8, 44])
def test_no_algorithm_beats_the_lower_bound_and_bandwidth_alone_reaches_it(ranks):
    link = Link(0.0, 1e9)
    for allreduce in (ring_s, halving_doubling_s):
        seconds = allreduce(1e6, ranks, link)
        assert seconds == pytest.approx(lower_bound_s(1e6, ranks, link))
        assert bus_bytes_per_s(1e6, ranks, seconds) == pytest.approx(1e9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Link(-1.0, 1.0), "latency_s must be a finite number, 0 or more, not -1.0"),
        (lambda: Link(math.nan, 1.0), "latency_s must be a finite number, 0 or more, not nan"),
        (lambda: Link(0.0, 0.0), "bytes_per_s must be above 0, not 0.0"),
        (lambda: ring_s(1, 0, LINK), "ranks must be an integer of 1 or more, not 0"),
        (lambda: halving_doubling_s(1, 0, LINK), "ranks must be an integer of 1 or more, not 0"),
        (lambda: bus_bytes_per_s(1, 0, 1.0), "ranks must be an integer of 1 or more, not 0"),
        (lambda: flat_ring_s(1, 0, 1, LINK, LINK), "hosts must be an integer of 1 or more, not 0"),
        (lambda: flat_ring_s(1, 1, 0, LINK, LINK), "per_host must be an integer of 1 or more, not 0"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
