"""What the paper measured of its cluster, the planner's own words on it, and the two parameters fitted to it."""

from dataclasses import dataclass, replace

from hvd_imagenet.planner.costs import Link
from hvd_imagenet.planner.prediction import Cluster, Load, simulate
from hvd_imagenet.planner.profile import Profile
from hvd_imagenet.planner.stragglers import Stragglers
from hvd_imagenet.planner.timeline import Exchange

BITS_PER_S = 50e9
SERVERS_OF = 8
LOAD = Load(per_worker=32)
BASELINE = 8
# Section 5.5: 0.232 s with 8 GPUs (29 hours), 0.256 s with 256 (one hour), 12 % more than the first with 352.
MEASURED_S = {8: 0.232, 256: 0.256, 352: 0.232 * 1.12}
FITTED_TO = 256


@dataclass(frozen=True)
class Compared:
    """One of the paper's points.

    Args:
        workers: GPUs.
        measured_s: the paper's time of an iteration.
        predicted_s: the planner's.
    """

    workers: int
    measured_s: float
    predicted_s: float

    @property
    def deviation(self) -> float:
        """Of the prediction, as a share of what was measured."""
        return self.predicted_s / self.measured_s - 1


def cluster_of_the_paper(profile: Profile, bits_per_s: float = BITS_PER_S, exchange: Exchange | None = None) -> Cluster:
    """Servers of 8, halving/doubling between them, each gradient reduced as soon as it is there (section 4).

    Args:
        profile: of the P100.
        bits_per_s: of a server's link.
        exchange: another way than Caffe2's, whose order of allreduces is fixed and needs no negotiation.

    Returns:
        The cluster.
    """
    between = Link(profile.latency_s, bits_per_s / 8 * profile.payload_share)
    return Cluster(between, SERVERS_OF, exchange=exchange or Exchange(fusion_bytes=0, cycle_s=0.0, negotiation="none"))


def compare(profile: Profile) -> list[Compared]:
    """The paper's points beside the planner's.

    Args:
        profile: of the P100.

    Returns:
        One item a point.

    Example:
        >>> from hvd_imagenet.planner.profile import load_profile
        >>> [point.workers for point in compare(load_profile("p100", "resnet50"))]
        [8, 256, 352]
    """
    cluster = cluster_of_the_paper(profile)
    return [
        Compared(workers, measured_s, simulate(profile, cluster, LOAD, workers).seconds)
        for workers, measured_s in MEASURED_S.items()
    ]


def unfitted(profile: Profile) -> Profile:
    """The profile without anything that was chosen to agree with the paper's times.

    Args:
        profile: of the P100.

    Returns:
        The profile with other_s and stragglers as they would be without the fits.

    Example:
        >>> from hvd_imagenet.planner.profile import load_profile
        >>> bare = unfitted(load_profile("p100", "resnet50"))
        >>> bare.other_s, str(bare.stragglers)
        (0.0, 'normal:0.015')
    """
    values = profile.unfitted
    stragglers = Stragglers.parse(str(values["stragglers"]))
    return replace(profile, other_s=float(values["other_s"]), stragglers=stragglers)


def anchored(profile: Profile, stragglers: Stragglers) -> Profile:
    """The profile with such stragglers, and the rest of a step so that the baseline takes what the paper measured.

    Args:
        profile: of the P100.
        stragglers: how the time of a worker's step is distributed.

    Returns:
        The profile with other_s and stragglers replaced; nothing else depends on the baseline.
    """
    bare = replace(profile, stragglers=stragglers, other_s=0.0)
    missing_s = MEASURED_S[BASELINE] - simulate(bare, cluster_of_the_paper(bare), LOAD, BASELINE).seconds
    return replace(bare, other_s=missing_s / stragglers.expected_maximum(BASELINE))


def fitted(profile: Profile) -> Profile:
    """The spread of the stragglers with which 256 workers take what the paper measured; 352 are left for a check.

    Args:
        profile: of the P100.

    Returns:
        The profile with other_s and stragglers replaced.

    Example:
        >>> from hvd_imagenet.planner.profile import load_profile
        >>> profile = load_profile("p100", "resnet50")
        >>> abs(fitted(profile).stragglers.spread - profile.stragglers.spread) < 5e-5  # the file has what this finds
        True
    """
    low, high = 0.0, 0.2
    for _ in range(40):
        middle = (low + high) / 2
        trial = anchored(profile, Stragglers("normal", middle))
        seconds = simulate(trial, cluster_of_the_paper(trial), LOAD, FITTED_TO).seconds
        low, high = (middle, high) if seconds < MEASURED_S[FITTED_TO] else (low, middle)
    return anchored(profile, Stragglers("normal", low))
