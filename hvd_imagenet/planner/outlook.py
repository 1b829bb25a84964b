"""What a faster link or larger n would bring, and where a cluster stops to scale."""

from dataclasses import dataclass, replace

from hvd_imagenet.planner.prediction import Cluster, Load, Point, predict
from hvd_imagenet.planner.profile import Profile

_MOST_SERVERS = 2**17
# Of each worker's efficiency in one full server: what the paper kept up to 256 of them, and one half.
SHARES = (0.9, 0.5)


@dataclass(frozen=True)
class Alternative:
    """The same workers under another condition.

    Args:
        what: the condition.
        point: what it would make of it.
        faster: images/s over what they are now.
    """

    what: str
    point: Point
    faster: float


def alternatives(profile: Profile, cluster: Cluster, load: Load, now: Point) -> list[Alternative]:
    """A link of twice and of ten times the rate, half the latency, and twice the images a worker.

    Args:
        profile: of the device.
        cluster: of the servers.
        load: of the iteration.
        now: the prediction to compare with.

    Returns:
        One item a condition; n stays where the minibatch is fixed.
    """
    link = cluster.between
    cases = [
        ("a link twice as fast", replace(cluster, between=replace(link, bytes_per_s=2 * link.bytes_per_s)), load),
        ("a link ten times as fast", replace(cluster, between=replace(link, bytes_per_s=10 * link.bytes_per_s)), load),
        ("half the latency", replace(cluster, between=replace(link, latency_s=link.latency_s / 2)), load),
    ]
    if load.minibatch is None:
        n = 2 * load.per_worker
        cases.append((f"{n} images a worker", cluster, replace(load, per_worker=n)))
    found = [(what, predict(profile, its_cluster, its_load, now.workers)) for what, its_cluster, its_load in cases]
    return [Alternative(what, point, point.images_per_second / now.images_per_second) for what, point in found]


def stops_scaling(profile: Profile, cluster: Cluster, load: Load, share: float = SHARES[-1]) -> Point | None:
    """The first number of workers, among full servers doubled again and again, whose efficiency is below a share.

    Args:
        profile: of the device.
        cluster: of the servers.
        load: of the iteration.
        share: of the efficiency in one full server.

    Returns:
        The prediction there; None where the efficiency stays above it, up to 131,072 servers or, with a fixed
        minibatch, up to its virtual workers.
    """
    for workers in _servers_filled(cluster, load):
        point = predict(profile, cluster, load, workers)
        if point.efficiency < share:
            return point
    return None


def looked_up_to(cluster: Cluster, load: Load) -> int:
    """How many workers stops_scaling looks at, at most.

    Args:
        cluster: of the servers.
        load: of the iteration.

    Returns:
        A number of workers.

    Example:
        >>> from hvd_imagenet.planner.costs import Link
        >>> looked_up_to(Cluster(Link(0.0, 1.0), servers_of=8), Load(32, minibatch=8192))
        256
    """
    return max(_servers_filled(cluster, load), default=cluster.servers_of)


def _servers_filled(cluster: Cluster, load: Load) -> list[int]:
    """Workers of 1, 2, 4, … full servers, no more than there are virtual workers."""
    filled = [cluster.servers_of * 2**times for times in range(_MOST_SERVERS.bit_length())]
    return [workers for workers in filled if load.minibatch is None or workers <= load.images(workers).workers]
