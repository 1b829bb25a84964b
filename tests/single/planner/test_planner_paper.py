"""The paper's cluster: what it measured, what the planner says of it, and where each parameter comes from."""

from dataclasses import replace

import pytest

from hvd_imagenet.planner.costs import Link
from hvd_imagenet.planner.outlook import stops_scaling
from hvd_imagenet.planner.paper import LOAD, MEASURED_S, anchored, cluster_of_the_paper, compare, fitted, unfitted
from hvd_imagenet.planner.prediction import predict
from hvd_imagenet.planner.profile import KINDS, load_profile
from hvd_imagenet.planner.timeline import Exchange

P100 = load_profile("p100", "resnet50")


def test_the_papers_times():
    assert [(point.workers, point.measured_s) for point in compare(P100)] == [
        (8, 0.232),
        (256, 0.256),
        (352, pytest.approx(0.25984)),
    ]
    for point in compare(P100):
        assert abs(point.deviation) < 0.02, point


def deviations(profile):
    return {point.workers: point.deviation for point in compare(profile)}


def test_with_cited_parameters_and_the_baseline_the_deviation_is_below_a_tenth():
    found = deviations(anchored(P100, unfitted(P100).stragglers))
    assert found[8] == pytest.approx(0, abs=1e-9)
    assert -0.1 < found[352] < found[256] < -0.05


def test_without_any_fit_the_deviations_are_those_that_the_file_names():
    source = {parameter.name: parameter.unfitted_source for parameter in P100.parameters}["other_s"]
    for workers, deviation in deviations(unfitted(P100)).items():
        assert f"{-100 * deviation:.1f} %" in source, (workers, deviation)


def test_the_file_has_what_the_fit_finds():
    found = fitted(P100)
    assert P100.stragglers.spread == pytest.approx(found.stragglers.spread, abs=5e-5)
    assert P100.other_s == pytest.approx(found.other_s, abs=5e-5)
    predicted = {point.workers: point.predicted_s for point in compare(found)}
    assert predicted[8] == pytest.approx(MEASURED_S[8])
    assert predicted[256] == pytest.approx(MEASURED_S[256], abs=1e-6)


def test_horovods_own_exchange_is_as_fast_as_the_papers():
    for workers, measured_s in MEASURED_S.items():
        point = predict(P100, cluster_of_the_paper(P100, exchange=Exchange()), LOAD, workers)
        assert point.step_seconds == pytest.approx(measured_s, rel=0.02)


@pytest.mark.parametrize(
    ("bits_per_s", "limited_by", "least", "most"),
    [
        (1e9, "link", 0.05, 0.15),
        (10e9, "link", 0.6, 0.85),
        (50e9, "compute", 0.88, 0.93),
        (400e9, "compute", 0.88, 0.93),
    ],
)
def test_a_slow_network_shows_its_cost(bits_per_s, limited_by, least, most):
    point = predict(P100, cluster_of_the_paper(P100, bits_per_s), LOAD, 256)
    assert point.limited_by == limited_by
    assert least < point.efficiency < most


def test_a_ring_stops_to_scale_where_halving_and_doubling_goes_on():
    cluster = cluster_of_the_paper(P100)
    assert stops_scaling(P100, cluster, LOAD) is None
    assert (stops_scaling(P100, cluster, LOAD, 0.9).workers, stops_scaling(P100, cluster, LOAD, 0.95).workers) == (
        512,
        64,
    )
    for algorithm in ("ring", "flat-ring"):
        stop = stops_scaling(P100, replace(cluster, algorithm=algorithm), LOAD)
        assert stop is not None
        assert stop.lost_to == "latency"


def test_links_that_cost_nothing_leave_computation_and_stragglers():
    free = replace(P100, inside=Link(0.0, 1e30), reduce_s_per_byte=0.0)
    cluster = replace(cluster_of_the_paper(P100), between=Link(0.0, 1e30))
    for workers in (8, 256, 16_384):
        step_s = predict(free, cluster, LOAD, workers).step_seconds
        alone_s = P100.other_s + P100.forward_s + P100.backward_s
        assert step_s == pytest.approx(alone_s * P100.stragglers.expected_maximum(workers))


def test_every_parameter_has_a_source():
    assert {parameter.kind for parameter in P100.parameters} <= set(KINDS)
    assert all(len(parameter.source) > 20 for parameter in P100.parameters)
    assert [parameter.name for parameter in P100.parameters if parameter.kind == "fitted"] == [
        "other_s",
        "stragglers",
    ]


def test_what_is_derived_follows_from_what_is_cited():
    value = {parameter.name: parameter.value for parameter in P100.parameters}
    assert value["reduce_bytes_per_s"] == pytest.approx(value["memory_bytes_per_s"] / 3)
    assert value["payload_share"] == pytest.approx(12.8 / 15, abs=5e-4)
    assert P100.backward_s == pytest.approx(value["backward_s"])
    # TensorFlow's benchmarks of May 2017, one P100: 195 images/s at 32, 219 at 64, so 1.78 times as long.
    compute_s = P100.forward_s + P100.backward_s
    assert (P100.other_s + 2 * compute_s) / (P100.other_s + compute_s) == pytest.approx(64 / 219 / (32 / 195), rel=0.1)
