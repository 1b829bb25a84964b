"""Does the planner's cluster of 2017 take as long as the paper's did, and where would it stop to scale?

The points of the paper (section 5.5) beside the planner's; once with parameters from cited sources alone, which were
fixed before the comparison, and once with the one that was fitted to the point of 256 GPUs. 352 are left for a check.

    python benchmarks/plan_against_paper.py --json benchmarks/results/plan_against_paper.json
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from step_overhead import provenance

from hvd_imagenet.planner.outlook import stops_scaling
from hvd_imagenet.planner.paper import LOAD, anchored, cluster_of_the_paper, compare
from hvd_imagenet.planner.prediction import ALGORITHMS, Point, predict
from hvd_imagenet.planner.profile import Profile, load_profile
from hvd_imagenet.planner.stragglers import Stragglers
from hvd_imagenet.planner.timeline import Exchange

NETWORKS = {"1gbit": 1e9, "10gbit": 10e9, "25gbit": 25e9, "50gbit": 50e9, "100gbit": 100e9}
BEYOND = (1024, 2048, 4096, 8192, 16_384)


def compared(profile: Profile) -> dict[str, Any]:
    """The paper's points."""
    return {
        str(point.workers): {
            "measured_s": round(point.measured_s, 4),
            "predicted_s": round(point.predicted_s, 4),
            "deviation": round(point.deviation, 4),
        }
        for point in compare(profile)
    }


def short(point: Point) -> dict[str, Any]:
    return {
        "step_seconds": round(point.step_seconds, 4),
        "efficiency": round(point.efficiency, 3),
        "limited_by": point.limited_by,
        "lost_to": point.lost_to,
    }


def summary() -> dict[str, Any]:
    """All comparisons."""
    profile = load_profile("p100", "resnet50")
    cited = anchored(profile, Stragglers.parse(str(profile.unfitted["stragglers"])))
    even = anchored(profile, Stragglers())
    found: dict[str, Any] = {
        "fitted": {"stragglers": str(profile.stragglers), "points": compared(profile)},
        "cited_alone": {"stragglers": str(cited.stragglers), "points": compared(cited)},
        "no_stragglers": {"stragglers": "none", "points": compared(even)},
    }
    worst = max(abs(point["deviation"]) for point in found["fitted"]["points"].values())
    found["ratios"] = {"agreement_with_fit": round(1 - worst, 4)}
    horovod = cluster_of_the_paper(profile, exchange=Exchange())
    found["256_workers_by_network"] = {
        name: short(predict(profile, cluster_of_the_paper(profile, rate, Exchange()), LOAD, 256))
        for name, rate in NETWORKS.items()
    }
    found["beyond_the_paper"] = {}
    for algorithm in ALGORITHMS:
        cluster = replace(horovod, algorithm=algorithm)
        stop = stops_scaling(profile, cluster, LOAD)
        found["beyond_the_paper"][algorithm] = {
            "points": {str(workers): short(predict(profile, cluster, LOAD, workers)) for workers in BEYOND},
            "half_is_lost_from": None if stop is None else {"workers": stop.workers, "lost_to": stop.lost_to},
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
