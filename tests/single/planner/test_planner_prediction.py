"""Predictions for a device of two layers, by hand, and their rules."""

import math
from dataclasses import replace

import pytest

from hvd_imagenet.planner.costs import Link
from hvd_imagenet.planner.outlook import alternatives, looked_up_to, stops_scaling
from hvd_imagenet.planner.prediction import Cluster, Input, Load, predict, simulate
from hvd_imagenet.planner.profile import Layer, Profile
from hvd_imagenet.planner.stragglers import Stragglers
from hvd_imagenet.planner.timeline import Exchange

# 4 images: 1 s of other things, 2 + 3 s forward, 4 + 6 s backward; 40 and 80 bytes of gradients.
TOY = Profile(
    device="toy",
    model="two layers",
    per_worker=4,
    layers=(Layer("first", (10,), 2.0, 4.0), Layer("second", (15, 5), 3.0, 6.0)),
    other_s=1.0,
    inside=Link(0.0, math.inf),
    latency_s=0.0,
    payload_share=1.0,
    reduce_s_per_byte=0.0,
    stragglers=Stragglers(),
    parameters=(),
)
AT_ONCE = Exchange(fusion_bytes=1000, cycle_s=0.0, negotiation="none")


def cluster(bytes_per_s: float, latency_s: float = 0.0, servers_of: int = 1, **others) -> Cluster:
    return Cluster(Link(latency_s, bytes_per_s), servers_of, **{"exchange": AT_ONCE, **others})


# The second layer's gradients are there after 1 + 5 + 6 = 12 s, the first's after 16 s. Two workers on a link of B
# bytes/s: 80/B and 40/B seconds.
@pytest.mark.parametrize(
    ("bytes_per_s", "step_s", "limited_by", "parts"),
    [
        (math.inf, 16.0, "compute", {"compute": 16.0}),
        (40.0, 17.0, "compute", {"compute": 16.0, "link": 1.0}),  # 12–14, 16–17
        (16.0, 19.5, "compute", {"compute": 12.0, "link": 7.5}),  # 12–17, 17–19.5
        (4.0, 42.0, "link", {"compute": 12.0, "link": 30.0}),  # 12–32, 32–42
    ],
)
def test_link(bytes_per_s, step_s, limited_by, parts):
    point = predict(TOY, cluster(bytes_per_s), Load(4), 2)
    assert point.step_seconds == pytest.approx(step_s)
    assert point.images_per_second == pytest.approx(8 / step_s)
    assert point.efficiency == pytest.approx(16 / step_s)
    assert (point.workers, point.minibatch, point.limited_by) == (2, 8, limited_by)
    assert {limit: part for limit, part in point.parts.items() if part} == pytest.approx(parts)
    assert point.lost_to == ("" if step_s == 16 else "link")


def test_latency_by_algorithm():
    steps = {"halving-doubling": 4, "ring": 6, "flat-ring": 6, "gloo-ring": 6}
    for algorithm, messages in steps.items():
        step = simulate(TOY, cluster(math.inf, 0.5, algorithm=algorithm), Load(4), 4)
        assert step.seconds == pytest.approx(16 + 0.5 * messages)
        assert step.path.latency_s == pytest.approx(0.5 * messages)


# A message takes 0.25 s: two for an allreduce of 2 workers (0.5 s), one or two to agree.
@pytest.mark.parametrize(("negotiation", "more_s"), [("none", 0.0), ("doubling", 0.25), ("ring", 0.5)])
def test_negotiation(negotiation, more_s):
    exchange = Exchange(1000, 0.0, negotiation)
    assert simulate(TOY, cluster(math.inf, 0.25, exchange=exchange), Load(4), 2).seconds == pytest.approx(16.5 + more_s)


def test_negotiation_may_have_been_measured():
    exchange = Exchange(1000, 0.0, "ring", negotiation_s=0.125)
    assert simulate(TOY, cluster(math.inf, 0.25, exchange=exchange), Load(4), 2).seconds == pytest.approx(16.5 + 0.125)


def test_cycles_are_averaged_over_their_phases():
    step = simulate(TOY, cluster(math.inf, exchange=Exchange(1000, 2.0, "none")), Load(4), 2)
    # The first look comes at 12 + 2·(1, 3, … 15)/16, a further one each 2 s: the first at or after 16 s.
    assert step.seconds == pytest.approx(17.0)
    assert step.path.latency_s == pytest.approx(1.0)


def test_images_of_a_worker_scale_the_layers_alone():
    assert simulate(TOY, cluster(1.0), Load(8), 1).seconds == pytest.approx(1 + 30)
    assert simulate(TOY, cluster(1.0), Load(2), 1).seconds == pytest.approx(1 + 7.5)


@pytest.mark.parametrize(
    ("workers", "passes", "step_s"), [(1, 6, 1 + 90), (2, 3, 1 + 45), (3, 2, 1 + 30), (4, 2, 1 + 30), (6, 1, 1 + 15)]
)
def test_a_fixed_minibatch_is_shared(workers, passes, step_s):
    load = Load(4, minibatch=24)
    assert load.passes(workers) == passes
    point = predict(TOY, cluster(math.inf), load, workers)
    assert (point.minibatch, point.step_seconds) == (24, pytest.approx(step_s))
    assert point.efficiency == pytest.approx(91 / (step_s * workers))
    assert point.lost_to == ("compute" if workers > 1 else "")  # what is the same for each step, whatever its images


def test_stragglers_stretch_the_computation():
    spread = replace(TOY, stragglers=Stragglers("exponential", 0.5))
    point = predict(spread, cluster(math.inf), Load(4), 2)
    assert point.step_seconds == pytest.approx(16 * 1.25)
    assert (point.parts["compute"], point.parts["stragglers"]) == (pytest.approx(16), pytest.approx(4))
    assert (point.limited_by, point.lost_to) == ("compute", "stragglers")
    many = predict(spread, cluster(math.inf), Load(4), 4096)  # 1 + 0.5 · (8.895 − 1) of the mean
    assert many.limited_by == "stragglers"


# A server of 2 needs 8 images in 16 s.
@pytest.mark.parametrize(
    ("feeding", "step_s", "limited_by"),
    [
        (Input(0.5, math.inf), 16.0, "compute"),
        (Input(0.25, math.inf), 32.0, "input"),
        (Input(math.inf, 0.1), 80.0, "storage"),
        (Input(0.25, 0.2), 40.0, "storage"),
    ],
)
def test_input(feeding, step_s, limited_by):
    fed = cluster(math.inf, servers_of=2, feeding=feeding)
    for workers in (2, 8):
        point = predict(TOY, fed, Load(4), workers)
        assert point.step_seconds == pytest.approx(step_s)
        assert point.limited_by == limited_by
        assert point.efficiency == pytest.approx(16 / step_s)  # against a server whose input keeps up
        assert sum(point.parts.values()) == pytest.approx(point.step_seconds)


def test_what_else_could_be():
    slow = cluster(4.0)
    now = predict(TOY, slow, Load(4), 2)
    found = {each.what: each for each in alternatives(TOY, slow, Load(4), now)}
    assert found["a link twice as fast"].point.step_seconds == pytest.approx(12 + 15)
    assert found["a link twice as fast"].faster == pytest.approx(42 / 27)
    assert found["half the latency"].faster == pytest.approx(1)
    assert found["8 images a worker"].point.minibatch == 16
    assert found["8 images a worker"].point.step_seconds == pytest.approx(1 + 10 + 12 + 30)
    fixed = alternatives(TOY, slow, Load(4, minibatch=8), now)
    assert [each.what for each in fixed] == ["a link twice as fast", "a link ten times as fast", "half the latency"]


def test_where_it_stops_to_scale():
    assert stops_scaling(TOY, cluster(math.inf), Load(4)) is None
    # A ring of p takes 2(p − 1) messages for each of two buckets; 16 s are lost from p = 2⁴ on.
    stop = stops_scaling(TOY, cluster(math.inf, 0.5, algorithm="ring"), Load(4))
    assert (stop.workers, stop.lost_to) == (16, "latency")
    # A fifth is 4 s: p = 4 loses the 3 s of the last bucket, p = 8 waits for the first one, too.
    assert stops_scaling(TOY, cluster(math.inf, 0.5, algorithm="ring"), Load(4), 0.8).workers == 8
    assert stops_scaling(TOY, cluster(math.inf, 0.5, algorithm="ring"), Load(4, minibatch=32)) is None
    assert looked_up_to(cluster(math.inf, servers_of=2), Load(4, minibatch=32)) == 8
    assert looked_up_to(cluster(math.inf, servers_of=2), Load(4)) == 2**18
    assert stops_scaling(TOY, cluster(math.inf, feeding=Input(0.1, math.inf)), Load(4)).workers == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: predict(TOY, cluster(1.0, servers_of=8), Load(4), 12),
            "workers must fill servers of 8, but 12 do not",
        ),
        (lambda: predict(TOY, cluster(1.0), Load(4), 0), "workers must be an integer of 1 or more, not 0"),
        (lambda: predict(TOY, cluster(1.0), Load(4, 8), 4), "processes must not exceed the number of workers"),
        (lambda: Load(0), "per_worker must be an integer of 1 or more, not 0"),
        (lambda: Load(4, 0), "minibatch must be an integer of 1 or more, not 0"),
        (lambda: Load(4, 6), "minibatch must be a multiple of per_worker"),
        (lambda: cluster(1.0, servers_of=0), "servers_of must be an integer of 1 or more, not 0"),
        (
            lambda: cluster(1.0, algorithm="star"),
            "algorithm must be one of halving-doubling, ring, flat-ring, gloo-ring, not 'star'",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value).startswith(message)
