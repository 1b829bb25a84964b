"""The timeline of a step against ones drawn by hand; seconds and bytes are small whole numbers."""

import itertools

import pytest

from hvd_imagenet.planner.timeline import Exchange, Gradient, Look, Path, critical_path, fused, reduce_overlapped

# Three tensors of 4 bytes, ready at 10, 12 and 20.
THREE = (Gradient(10.0, 4), Gradient(12.0, 4), Gradient(20.0, 4))


def reduce_s(size_bytes: float) -> float:
    """1 s of latency and 1 s for two bytes."""
    return 1 + size_bytes / 2


@pytest.mark.parametrize(
    ("exchange", "negotiation_s", "looks"),
    [
        # No fusion, no cycles: 10–13, 13–16, then idle until 20.
        (Exchange(0, 0.0), 0.0, [(10, 13, [4]), (13, 16, [4]), (20, 23, [4])]),
        # Fusion has nothing to fuse: the second comes while the first is reduced, alone.
        (Exchange(100, 0.0), 0.0, [(10, 13, [4]), (13, 16, [4]), (20, 23, [4])]),
        # Looks at 12 (half a cycle), 17 and 22 (nothing at 16): the first two together, 5 s; negotiated for 1 s.
        (Exchange(100, 4.0), 0.0, [(12, 17, [8]), (21, 24, [4])]),
        (Exchange(100, 4.0), 1.0, [(12, 18, [8]), (22, 26, [4])]),
        # The same without room for two in a bucket: 3 s each.
        (Exchange(7, 4.0), 0.0, [(12, 18, [4, 4]), (22, 25, [4])]),
        # A cycle so long that one look sees all.
        (Exchange(100, 30.0), 0.0, [(25, 32, [12])]),
        # Negotiation without cycles is a cycle itself: looks at 10, 13.5 and then each half second.
        (Exchange(100, 0.0), 0.5, [(10, 13.5, [4]), (13.5, 17, [4]), (20, 23.5, [4])]),
    ],
)
def test_looks(exchange, negotiation_s, looks):
    found = reduce_overlapped(THREE, exchange, reduce_s, negotiation_s)
    assert [(look.look_s, look.end_s, [size for _, size in look.buckets]) for look in found] == looks


def test_the_phase_moves_the_first_look():
    first = [reduce_overlapped(THREE, Exchange(100, 4.0), reduce_s, 0.0, phase)[0].look_s for phase in (0, 0.25, 1)]
    assert first == [10, 11, 14]


def test_nothing_to_reduce():
    assert reduce_overlapped((), Exchange(), reduce_s, 0.0) == ()


def test_every_tensor_is_reduced_once_and_never_before_it_is_ready():
    gradients = [Gradient(0.1 * index, 1 + index % 7) for index in range(200)]
    for cycle_s in (0.0, 0.03, 0.7):
        looks = reduce_overlapped(gradients, Exchange(11, cycle_s), lambda size: 0.01 * size, 0.001)
        assert sum(tensors for look in looks for tensors, _ in look.buckets) == 200
        assert sum(size for look in looks for _, size in look.buckets) == sum(each.size_bytes for each in gradients)
        assert all(look.ready_s <= look.look_s < look.end_s for look in looks)
        assert all(before.end_s <= after.look_s for before, after in itertools.pairwise(looks))


@pytest.mark.parametrize(
    ("threshold", "buckets"),
    [
        (0, [[3], [4], [9], [2], [2]]),
        (7, [[3, 4], [9], [2, 2]]),
        (8, [[3, 4], [9], [2, 2]]),
        (13, [[3, 4], [9, 2, 2]]),
        (20, [[3, 4, 9, 2, 2]]),
    ],
)
def test_fusion(threshold, buckets):
    assert fused([3, 4, 9, 2, 2], threshold) == buckets
    assert fused([], threshold) == []


def bytes_s(size_bytes: float) -> float:
    return size_bytes / 2


FIRST = Look(10.0, 11.0, 15.0, ((1, 4),))  # waits 1 s for the look, 2 s of latency, 2 s on the link


@pytest.mark.parametrize(
    ("looks", "compute_s", "path"),
    [
        ((), 9.0, Path(9.0, 0.0, 0.0)),
        ((FIRST,), 20.0, Path(20.0, 0.0, 0.0)),  # hidden
        ((FIRST,), 12.0, Path(10.0, 2.0, 3.0)),
        # What was ready while the first was reduced waited for it: the chain begins before the first.
        ((FIRST, Look(14.0, 15.0, 20.0, ((2, 8),))), 14.0, Path(10.0, 6.0, 4.0)),
        # What came after it did not.
        ((FIRST, Look(16.0, 17.0, 20.0, ((1, 4),))), 16.0, Path(16.0, 2.0, 2.0)),
    ],
)
def test_critical_path(looks, compute_s, path):
    assert critical_path(looks, compute_s, bytes_s) == path


def test_an_unknown_negotiation():
    with pytest.raises(ValueError, match="negotiation must be one of doubling, ring, none, not 'shout'"):
        Exchange(negotiation="shout")
