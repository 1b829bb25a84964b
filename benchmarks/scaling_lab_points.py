"""The points of the scaling lab: their settings, what the planner says of them, and how they are written down."""

import statistics
from dataclasses import asdict, dataclass, replace
from typing import Any

from hvd_imagenet.planner.asked import bits_per_s
from hvd_imagenet.planner.costs import Link
from hvd_imagenet.planner.prediction import Cluster, Load, simulate
from hvd_imagenet.planner.profile import Layer, Profile
from hvd_imagenet.planner.stragglers import Stragglers
from hvd_imagenet.planner.timeline import MIB, Exchange

PAYLOAD_SHARE = 1448 / 1514
# The bytes take as long as in the paper's cluster: there 2·31/32 of them at 50 Gbit/s · 12.8/15, here 2·15/16 of them
# at this rate · 1448/1514.
PAPERS_NETWORK = "43gbit"
# Between processes of one host nothing is shaped: Gloo's bus bandwidth there, which only --quick depends on.
INSIDE_BYTES_PER_S = 0.6e9


@dataclass(frozen=True)
class Setting:
    """One point, in the P100's time and sizes.

    Args:
        hosts: that take part.
        per_host: ranks of each.
        link: a host's.
        cycle_ms: Horovod's cycle time.
        fusion_mb: its fusion threshold, MiB.
        spread: of the devices' pace from step to step.
    """

    hosts: int
    per_host: int
    link: str = PAPERS_NETWORK
    cycle_ms: float = 1.0
    fusion_mb: float = 128.0
    spread: float = 0.0

    @property
    def ranks(self) -> int:
        return self.hosts * self.per_host


LARGEST = Setting(4, 4)
FULL = [
    *(Setting(*shape) for shape in ((2, 1), (4, 1), (4, 2), (4, 4))),
    *(replace(LARGEST, link=link) for link in ("25gbit", "10gbit", "5gbit")),
    *(replace(LARGEST, cycle_ms=cycle_ms) for cycle_ms in (0.5, 2.5, 5.0, 10.0)),
    *(replace(LARGEST, fusion_mb=fusion_mb) for fusion_mb in (0.0, 8.0, 32.0)),
    Setting(4, 1, "10gbit"),
    Setting(4, 2, "10gbit"),
    replace(LARGEST, spread=0.05),
]
QUICK = [Setting(1, 2)]


def scaled(profile: Profile, factor: float, calibration: dict[str, float]) -> Profile:
    """The device as the lab has it: slower, with smaller tensors; without stragglers of its own."""
    layers = tuple(
        Layer(
            layer.name,
            tuple(max(1, round(elements / factor)) for elements in layer.tensors),
            factor * layer.forward_s,
            factor * layer.backward_s,
        )
        for layer in profile.layers
    )
    return replace(
        profile,
        layers=layers,
        other_s=factor * profile.other_s,
        inside=Link(calibration["latency_s"], INSIDE_BYTES_PER_S),
        latency_s=calibration["latency_s"],
        reduce_s_per_byte=calibration["reduce_s_per_byte"],
        stragglers=Stragglers(),
    )


def predicted_s(setting: Setting, profile: Profile, factor: float) -> float:
    """The planner's step of a setting: Gloo's ring through all ranks, which it also agrees with."""
    rate = bits_per_s(setting.link) / factor**2 / 8 * PAYLOAD_SHARE
    exchange = Exchange(int(setting.fusion_mb * MIB / factor), 1e-3 * setting.cycle_ms * factor, "ring")
    cluster = Cluster(Link(profile.latency_s, rate), setting.per_host, "flat-ring", exchange)
    its_profile = replace(profile, stragglers=Stragglers("normal", setting.spread))
    return simulate(its_profile, cluster, Load(profile.per_worker), setting.ranks).seconds


def row(setting: Setting, found: dict[str, Any], profile: Profile, factor: float) -> dict[str, Any]:
    """A point as the result file has it; steps in seconds of the P100, so a factor shorter than here."""
    measured_s, by_planner_s = statistics.median(found["seconds"]), predicted_s(setting, profile, factor)
    compute_s = profile.other_s + profile.forward_s + profile.backward_s
    return {
        **asdict(setting),
        "ranks": setting.ranks,
        "measured_s": round(measured_s / factor, 5),
        "fastest_s": round(min(found["seconds"]) / factor, 5),
        "slowest_s": round(max(found["seconds"]) / factor, 5),
        "predicted_s": round(by_planner_s / factor, 5),
        "deviation": round(by_planner_s / measured_s - 1, 4),
        "efficiency": round(compute_s / measured_s, 4),
        "cores_busy": round(found["busy"], 3),
        "cores_busy_with_ranks": round(found["busy_with_ranks"], 3),
    }


def summary(points: list[dict[str, Any]]) -> dict[str, Any]:
    """How far the planner is off, and the best efficiency at the paper's ratio of computation to communication."""
    if not points:
        return {"ratios": {}}
    worst = max(points, key=lambda point: abs(point["deviation"]))
    found: dict[str, Any] = {
        "median_deviation": round(statistics.median(abs(point["deviation"]) for point in points), 4),
        "worst": worst,
        "ratios": {},
    }
    papers = [
        point for point in points if (point["ranks"], point["link"], point["spread"]) == (16, PAPERS_NETWORK, 0.0)
    ]
    if papers:
        best = max(papers, key=lambda point: point["efficiency"])
        found["best_settings"] = best
        found["ratios"]["efficiency_at_the_papers_ratio"] = best["efficiency"]
    return found


def line(point: dict[str, Any]) -> str:
    """A point for the terminal."""
    return (
        f"{point['ranks']:>2} ranks, {point['link']:>6}, cycle {point['cycle_ms']:g} ms, "
        f"fusion {point['fusion_mb']:g}: {point['measured_s']:.4f} s, planner {100 * point['deviation']:+.1f} %, "
        f"efficiency {100 * point['efficiency']:.1f} %, cores {100 * point['cores_busy']:.0f} % busy"
    )
