"""How points of the scaling lab are written down, and what they say of the planner together."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from scaling_lab_points import EIGHT, FOUR, LARGEST, SLOW, SWEEP, TWO, Setting, compute_s, is_of

from hvd_imagenet.planner.prediction import Step
from hvd_imagenet.planner.profile import Profile

# Beyond this share of the computation, communication matters: no planner is needed for the other points.
MATTERS = 0.05
HALF_LOAD = 0.5
PAPERS_SERVER = 8  # the workers that the paper's efficiency is measured against
Row = dict[str, Any]
# In README, by key; at most 10.
SHOWN = {
    "16_papers": LARGEST,
    "16_10gbit": replace(LARGEST, link=SLOW),
    "16_5gbit": replace(LARGEST, link="5gbit"),
    "8_10gbit": replace(EIGHT, link=SLOW),
    "8_unfused": replace(EIGHT, link=SLOW, fusion_mb=0.0),
    "8_late": replace(EIGHT, latency_us=100.0, fusion_mb=0.0),
    "4_2.5gbit": replace(FOUR, link="2.5gbit"),
    "4_ring": replace(FOUR, over="ring", link="5gbit"),
    "4_rabenseifner": replace(FOUR, over="rabenseifner", link="5gbit"),
    "2_5gbit": replace(TWO, link="5gbit"),
}


def row(setting: Setting, found: Row, step: Step, factor: float, origin: Row) -> Row:
    """A point as the result file has it; seconds are the device's, so a factor shorter than here.

    Args:
        setting: of the point.
        found: by rank 0.
        step: the planner's, in the lab's time.
        factor: by which the lab is slower.
        origin: date and commit.
    """
    measured_s, by_planner_s = statistics.median(found["seconds"]) / factor, step.seconds / factor
    alone_s = compute_s(setting.profile)
    return {
        **asdict(setting),
        "setting": str(setting),
        "ranks": setting.ranks,
        "factor": factor,
        "compute_s": round(alone_s, 6),
        "measured_s": round(measured_s, 5),
        "fastest_s": round(min(found["seconds"]) / factor, 5),
        "slowest_s": round(max(found["seconds"]) / factor, 5),
        "steps": len(found["seconds"]),
        "predicted_s": round(by_planner_s, 5),
        "deviation": round(by_planner_s / measured_s - 1, 4),
        "null_deviation": round(alone_s / measured_s - 1, 4),
        "exposed_s": round(measured_s - alone_s, 5),
        "predicted_exposed_s": round(by_planner_s - alone_s, 5),
        "exposed_deviation": round((by_planner_s - alone_s) / max(1e-9, measured_s - alone_s) - 1, 4),
        "efficiency": round(alone_s / measured_s, 4),
        "cores_busy": round(found["busy"], 3),
        "cores_busy_with_ranks": round(found["busy_with_ranks"], 3),
        "over_half_load": found["busy"] > HALF_LOAD,
        **origin,
    }


def line(point: Row) -> str:
    """A point for the terminal."""
    busy = f"cores {100 * point['cores_busy']:.0f} % busy{' (!)' if point['over_half_load'] else ''}"
    off = f"planner {100 * point['deviation']:+.1f} %, computation alone {100 * point['null_deviation']:+.1f} %"
    return (
        f"{point['setting']}: {point['measured_s']:.4f} s, {off}, efficiency {100 * point['efficiency']:.1f} %, {busy}"
    )


def summary(points: Sequence[Row]) -> Row:
    """How far the planner is off, and how far one is off who takes communication for free; and the load."""
    if not points:
        return {}
    matter = [point for point in points if point["exposed_s"] > MATTERS * point["compute_s"]]
    worst = max(points, key=lambda point: abs(point["deviation"]))
    busiest = max(points, key=lambda point: point["cores_busy"])
    return {
        "median_deviation": _median(points, "deviation"),
        "median_deviation_of_computation_alone": _median(points, "null_deviation"),
        "worst": _named(worst, "deviation"),
        "where_communication_matters": {
            "points": len(matter),
            "of": len(points),
            "from_exposed_share": MATTERS,
            "median_deviation": _median(matter, "deviation"),
            "median_deviation_of_computation_alone": _median(matter, "null_deviation"),
            "median_deviation_of_exposed": _median(matter, "exposed_deviation"),
            "worst_exposed": _named(
                max(matter, key=lambda point: abs(point["exposed_deviation"]), default=None), "exposed_deviation"
            ),
        },
        "busiest": _named(busiest, "cores_busy"),
        "over_half_load": [point["setting"] for point in points if point["over_half_load"]],
        "points_over_half_load": sum(point["over_half_load"] for point in points),
    }


def _median(points: Sequence[Row], name: str) -> float | None:
    return round(statistics.median(abs(point[name]) for point in points), 4) if points else None


def _named(point: Row | None, name: str) -> Row | None:
    return None if point is None else {"setting": point["setting"], name: point[name]}


def shown(points: Sequence[Row]) -> Row:
    """What README shows of points, by a name that stays."""
    return {name: point for name, setting in SHOWN.items() for point in points if is_of(point, setting)}


def best_setting(points: Sequence[Row]) -> Setting | None:
    """The settings of the sweep with which the most is left of each worker, when all of it is measured."""
    swept = [(setting, point) for setting in SWEEP for point in points if is_of(point, setting)]
    if len(swept) < len(SWEEP):
        return None
    return max(swept, key=lambda both: both[1]["efficiency"])[0]


def stragglers_row(point: Row, profile: Profile) -> Row:
    """A point whose devices are as uneven as the paper's, with its efficiency as the paper counts it: against a server.

    Args:
        point: with a spread.
        profile: of the device.
    """
    server_s = point["compute_s"] * profile.stragglers.expected_maximum(PAPERS_SERVER)
    return point | {
        "efficiency_of_one_worker": point["efficiency"],
        "efficiency_of_a_server_of_8": round(server_s / point["measured_s"], 4),
    }
