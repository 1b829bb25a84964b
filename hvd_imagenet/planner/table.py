"""Predictions as text for a terminal of 80 columns, and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hvd_imagenet.planner.outlook import Alternative
from hvd_imagenet.planner.prediction import Cluster, Load, Point
from hvd_imagenet.planner.profile import Profile

_ACCURATE_MINIBATCH = 8192


def run_seconds(point: Point, load: Load, images: int, epochs: float) -> float:
    """The time of a run at a point's pace.

    Args:
        point: a prediction.
        load: of the iteration.
        images: N, training images.
        epochs: E.

    Returns:
        Seconds, without validation and start.
    """
    return load.images(point.workers).iterations(images, epochs) * point.step_seconds


def duration(seconds: float) -> str:
    """Seconds as one reads them.

    Args:
        seconds: 0 or more.

    Returns:
        Minutes and seconds, hours and minutes, days and hours, or years.

    Example:
        >>> duration(59.6), duration(3605), duration(104500), duration(3e6), duration(1e9)
        ('1:00 min', '1:00 h', '29:02 h', '34 d 17 h', '32 years')
    """
    seconds = round(seconds)
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    minutes = round(seconds / 60)
    if minutes < 100 * 60:
        return f"{minutes // 60}:{minutes % 60:02} h"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h" if hours < 1000 * 24 else f"{hours / 24 / 365.25:,.0f} years"


def table(points: Sequence[Point], times_s: Sequence[float], epochs: float) -> str:
    """One line a point.

    Args:
        points: predictions.
        times_s: of a run, one a point.
        epochs: of the run.

    Returns:
        Lines of at most 80 columns.
    """
    lines = [f" workers    step s     images/s  efficiency  {f'{epochs:g} epochs':>10}  limited by  lost to"]
    for point, seconds in zip(points, times_s, strict=True):
        line = (
            f"{point.workers:>8}  {point.step_seconds:>8.4f}  {point.images_per_second:>11,.0f}  "
            f"{100 * point.efficiency:>8.1f} %  {duration(seconds):>10}  {point.limited_by:<10}  {point.lost_to}"
        )
        lines.append(line.rstrip())
    return "\n".join(lines)


def remarks(
    last: Point, others: Sequence[Alternative], stops: Mapping[float, Point | None], load: Load, most: int
) -> list[str]:
    """What the largest of the clusters would gain, where it ends, and what is known of its minibatch.

    Args:
        last: the prediction for the most workers.
        others: what it would be otherwise.
        stops: where so large a share of each worker's efficiency is lost, by the share that is left.
        load: of the iteration.
        most: workers that were looked at for it.

    Returns:
        Lines of at most 80 columns.
    """
    lines = [f"{last.workers:,} workers with"]
    for other in others:
        gain = f"{round(100 * (other.faster - 1), 1) or 0.0:+.1f} % images/s"
        lines.append(f"  {other.what + ':':<26} {other.point.step_seconds:.4f} s a step, {gain}")
    for share, stop in stops.items():
        if stop is not None:
            lines.append(f"below {100 * share:g} % efficiency from {stop.workers:,} workers on: {stop.lost_to}")
        else:
            ends = "all of the minibatch's" if load.minibatch else "as far as was looked"
            lines.append(f"above {100 * share:g} % efficiency up to {most:,} workers, {ends}")
    return lines + accuracy_notes(last)


def accuracy_notes(point: Point) -> list[str]:
    """What the paper says of a minibatch beyond its own.

    Args:
        point: a prediction.

    Returns:
        Lines of at most 80 columns; none up to 8,192 images.
    """
    if point.minibatch <= _ACCURATE_MINIBATCH:
        return []
    return [
        f"note: a minibatch of {point.minibatch:,} costs accuracy; the paper's error (ResNet-50):",
        "  23.74 % at 8k, 24.79 % at 16k, 27.55 % at 32k and 33.96 % at 64k",
    ]


def about(profile: Profile, cluster: Cluster, load: Load, network: str) -> list[str]:
    """What is predicted, and which figures were fitted or assumed.

    Args:
        profile: of the device.
        cluster: of the servers.
        load: of the iteration.
        network: the link as the user named it.

    Returns:
        Lines of at most 80 columns.
    """
    exchange = cluster.exchange
    shared = f"minibatch {load.minibatch:,} of " if load.minibatch else ""
    lines = [
        f"{profile.model} on {profile.device}, {shared}{load.per_worker} images a worker; "
        f"servers of {cluster.servers_of} on {network}",
        f"{cluster.algorithm}, fusion {exchange.fusion_bytes / 2**20:g} MiB, cycle {1e3 * exchange.cycle_s:g} ms; "
        f"stragglers {profile.stragglers}",
    ]
    for kind in ("fitted", "assumed"):
        names = ", ".join(parameter.name for parameter in profile.parameters if parameter.kind == kind)
        if names:
            lines.append(f"{kind}: {names}")
    return lines


def as_json(
    profile: Profile, cluster: Cluster, load: Load, points: Sequence[Point], times_s: Sequence[float]
) -> dict[str, Any]:
    """All of it for a program.

    Args:
        profile: of the device.
        cluster: of the servers.
        load: of the iteration.
        points: predictions.
        times_s: of a run, one a point.

    Returns:
        An object with `points`, what was asked and every parameter with its source.
    """
    rows = [asdict(point) | {"run_seconds": seconds} for point, seconds in zip(points, times_s, strict=True)]
    return {
        "device": profile.device,
        "model": profile.model,
        "per_worker": load.per_worker,
        "minibatch": load.minibatch,
        "servers_of": cluster.servers_of,
        "link": asdict(cluster.between),
        "algorithm": cluster.algorithm,
        "exchange": asdict(cluster.exchange),
        "stragglers": str(profile.stragglers),
        "points": rows,
        "parameters": [asdict(parameter) for parameter in profile.parameters],
    }


def outlook_as_json(
    last: Point, others: Sequence[Alternative], stops: Mapping[float, Point | None], most: int
) -> dict[str, Any]:
    """The remarks for a program.

    Args:
        last: the prediction for the most workers.
        others: what it would be otherwise.
        stops: where so large a share of each worker's efficiency is lost, by the share that is left.
        most: workers that were looked at for it.

    Returns:
        An object with `alternatives`, `stops_scaling` (workers are null where it does not) and `notes`.
    """
    return {
        "alternatives": [
            {
                "what": other.what,
                "workers": last.workers,
                "step_seconds": other.point.step_seconds,
                "images_per_second": other.point.images_per_second,
                "efficiency": other.point.efficiency,
                "faster": other.faster,
            }
            for other in others
        ],
        "stops_scaling": [
            {
                "efficiency_below": share,
                "workers": None if stop is None else stop.workers,
                "lost_to": None if stop is None else stop.lost_to,
                "looked_up_to": most,
            }
            for share, stop in stops.items()
        ],
        "notes": [" ".join(line.split()) for line in accuracy_notes(last)],
    }
