"""Does the planner's cluster of 2017 take as long as the paper's did, and where would it stop to scale?

The points of the paper (section 5.5) beside the planner's; with parameters from cited sources alone, which were fixed
before the comparison; with the rest of a step chosen so that 8 GPUs agree, the baseline; and with the spread of the
workers fitted to 256 GPUs as well. 352 are left for a check. Then what networks cost, and where it stops to scale.

    python benchmarks/plan_against_paper.py --json benchmarks/results/plan_against_paper.json
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from provenance import provenance

from hvd_imagenet.planner.outlook import stops_scaling
from hvd_imagenet.planner.paper import BASELINE, LOAD, anchored, cluster_of_the_paper, compare, unfitted
from hvd_imagenet.planner.prediction import ALGORITHMS, Cluster, Point, predict
from hvd_imagenet.planner.profile import Profile, load_profile
from hvd_imagenet.planner.stragglers import Stragglers
from hvd_imagenet.planner.timeline import Exchange

NETWORKS = {"1gbit": 1e9, "10gbit": 10e9, "25gbit": 25e9, "50gbit": 50e9, "100gbit": 100e9, "400gbit": 400e9}
BEYOND = (1024, 2048, 4096, 8192, 16_384)


def compared(profile: Profile) -> dict[str, Any]:
    """The paper's points; growth is against its baseline, 8 GPUs."""
    points = {point.workers: point for point in compare(profile)}
    base = points[BASELINE]
    return {
        str(workers): {
            "measured_s": round(point.measured_s, 4),
            "predicted_s": round(point.predicted_s, 4),
            "deviation": round(point.deviation, 4) + 0.0,  # no −0.0
            "measured_growth": round(point.measured_s / base.measured_s - 1, 4),
            "predicted_growth": round(point.predicted_s / base.predicted_s - 1, 4),
        }
        for workers, point in points.items()
    }


def short(point: Point) -> dict[str, Any]:
    return {
        "step_seconds": round(point.step_seconds, 4),
        "images_per_second": round(point.images_per_second),
        "efficiency": round(point.efficiency, 3),
        "limited_by": point.limited_by,
        "lost_to": point.lost_to,
    }


def by_network(profile: Profile) -> dict[str, Any]:
    """256 workers on slow and fast links, with Horovod's own exchange."""
    points = {
        name: predict(profile, cluster_of_the_paper(profile, rate, Exchange()), LOAD, 256)
        for name, rate in NETWORKS.items()
    }
    own = points["50gbit"].images_per_second
    return {
        name: {**short(point), "vs_50gbit": round(point.images_per_second / own, 3)} for name, point in points.items()
    }


def stop_of(profile: Profile, cluster: Cluster, share: float) -> dict[str, Any] | None:
    stop = stops_scaling(profile, cluster, LOAD, share)
    return None if stop is None else {"workers": stop.workers, "lost_to": stop.lost_to}


def _case(profile: Profile) -> dict[str, Any]:
    """A choice of the parameters that can be fitted, and the points with it."""
    stragglers = str(profile.stragglers)
    return {"stragglers": stragglers, "other_s": round(profile.other_s, 5), "points": compared(profile)}


def agreement(case: dict[str, Any], workers: list[str]) -> float:
    """1 less the worst deviation."""
    return round(1 - max(abs(case["points"][each]["deviation"]) for each in workers), 4)


def summary() -> dict[str, Any]:
    """All comparisons."""
    profile = load_profile("p100", "resnet50")
    cited = unfitted(profile)
    cases = {
        "fitted": profile,
        "cited_alone": cited,
        "baseline_fitted": anchored(profile, cited.stragglers),
        "no_stragglers": anchored(profile, Stragglers()),
    }
    found: dict[str, Any] = {name: _case(case) for name, case in cases.items()}
    found["ratios"] = {
        "agreement_at_352_with_fit": agreement(found["fitted"], ["352"]),
        "agreement_with_cited_alone": agreement(found["cited_alone"], ["8", "256", "352"]),
    }
    found["256_workers_by_network"] = by_network(profile)
    found["beyond_the_paper"] = {}
    for algorithm in ALGORITHMS:
        cluster = replace(cluster_of_the_paper(profile, exchange=Exchange()), algorithm=algorithm)
        found["beyond_the_paper"][algorithm] = {
            "points": {str(workers): short(predict(profile, cluster, LOAD, workers)) for workers in BEYOND},
            "tenth_is_lost_from": stop_of(profile, cluster, 0.9),
            "half_is_lost_from": stop_of(profile, cluster, 0.5),
        }
    found["parameters"] = [asdict(parameter) for parameter in profile.parameters]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    arguments = parser.parse_args()
    found = {**provenance("computed, not measured"), **summary()}
    print(json.dumps({name: value for name, value in found.items() if name != "parameters"}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
