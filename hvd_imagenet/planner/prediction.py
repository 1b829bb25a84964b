"""A step of a whole cluster: its time, the images a second, the efficiency, and what limits it."""

import functools
import math
import statistics
from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace

from hvd_imagenet.core.minibatch import Minibatch, positive_integer
from hvd_imagenet.planner.costs import Link, flat_ring_s, gloo_ring_s, halving_doubling_s, hierarchical_s, ring_s
from hvd_imagenet.planner.profile import FLOAT_BYTES, Profile
from hvd_imagenet.planner.timeline import Exchange, Gradient, Look, Path, critical_path, reduce_overlapped

ALGORITHMS = ("halving-doubling", "ring", "flat-ring", "gloo-ring")
LIMITS = ("compute", "link", "latency", "stragglers", "input", "storage")
IMAGENET_IMAGES = 1_281_167
_PHASES = 8  # of Horovod's cycles against the training; their mean is taken
_HIDDEN = 0.1  # the share of a step that may be more than computation before something else is said to limit it


@dataclass(frozen=True)
class Input:
    """What each server can read and decode; infinite where nobody has said.

    Args:
        decoded_per_s: images a second, of all its cores.
        read_per_s: images a second, from its storage.
    """

    decoded_per_s: float = math.inf
    read_per_s: float = math.inf


@dataclass(frozen=True)
class Cluster:
    """Servers of workers, and how they exchange gradients.

    Args:
        between: a server's link; the payload's rate.
        servers_of: g, workers of a full server.
        algorithm: halving-doubling or ring between the servers, in the paper's three phases; or a flat ring, or Gloo's.
        exchange: fusion and cycles.
        feeding: what limits the input of a server.

    Raises:
        ValueError: no such algorithm, or servers without workers.
    """

    between: Link
    servers_of: int
    algorithm: str = "halving-doubling"
    exchange: Exchange = field(default_factory=Exchange)
    feeding: Input = field(default_factory=Input)

    def __post_init__(self) -> None:
        positive_integer("servers_of", self.servers_of)
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, not {self.algorithm!r}")

    def servers(self, workers: int) -> tuple[int, int]:
        """How many servers so many workers fill, and how many workers each has.

        Raises:
            ValueError: the last server would not be full.
        """
        positive_integer("workers", workers)
        if workers <= self.servers_of:
            return 1, workers
        if workers % self.servers_of:
            below = workers // self.servers_of * self.servers_of
            raise ValueError(
                f"workers must fill servers of {self.servers_of}, but {workers} do not; "
                f"nearest: {below} or {below + self.servers_of}"
            )
        return workers // self.servers_of, self.servers_of


@dataclass(frozen=True)
class Load:
    """What is computed in one iteration.

    Args:
        per_worker: n, images of one virtual worker, which a process computes at once.
        minibatch: kn, whatever the number of workers; None gives each of them one n.

    Raises:
        ValueError: what Minibatch refuses.
    """

    per_worker: int
    minibatch: int | None = None

    def __post_init__(self) -> None:
        positive_integer("per_worker", self.per_worker)
        if self.minibatch is not None:
            self.images(1)

    def images(self, workers: int) -> Minibatch:
        """The minibatch of so many workers."""
        size = workers * self.per_worker if self.minibatch is None else self.minibatch
        return Minibatch(size, self.per_worker)

    def passes(self, workers: int) -> int:
        """Forward and backward passes of the process that has most of them."""
        hosted = self.images(workers)
        if workers > hosted.workers:
            hosted.placement(workers)  # says why not
        return -(-hosted.workers // workers)


@dataclass(frozen=True)
class Step:
    """One step of a cluster.

    Args:
        seconds: of the step.
        compute_s: of the slowest worker, without waiting for gradients.
        path: the critical one, which adds up to the seconds.
        looks: what was reduced and when, in one of the cases that seconds and path are the mean of.
    """

    seconds: float
    compute_s: float
    path: Path
    looks: tuple[Look, ...] = ()


@functools.lru_cache(maxsize=64)
def simulate(profile: Profile, cluster: Cluster, load: Load, workers: int) -> Step:
    """The timeline of one step, input and storage left out.

    Args:
        profile: of the device.
        cluster: of the servers.
        load: of the iteration.
        workers: processes, one a device.

    Returns:
        Its times. With stragglers all workers go at the expected pace of the slowest, because each bucket waits for it.

    Raises:
        ValueError: workers that do not fill the servers, or more than there are virtual workers.

    Example:
        >>> from hvd_imagenet.planner.profile import load_profile
        >>> step = simulate(load_profile("p100", "resnet50"), Cluster(Link(1e-5, 5e9), 8), Load(32), workers=8)
        >>> sum(tensors for look in step.looks for tensors, _ in look.buckets)
        161
    """
    pace = profile.stragglers.expected_maximum(workers)
    images = load.per_worker / profile.per_worker
    forward_s, backward_s = pace * images * profile.forward_s, pace * images * profile.backward_s
    other_s = pace * profile.other_s
    begin_s = other_s + load.passes(workers) * (forward_s + backward_s) - backward_s  # of the last backward pass
    gradients, now_s = [], begin_s
    for layer in reversed(profile.layers):
        now_s += pace * images * layer.backward_s
        gradients += [Gradient(now_s, FLOAT_BYTES * elements) for elements in layer.tensors]
    compute_s = begin_s + backward_s
    if workers == 1:
        return Step(compute_s, compute_s, Path(compute_s, 0.0, 0.0))
    allreduce_s, bytes_s = _allreduce(profile, cluster, workers), _allreduce(*_prompt(profile, cluster), workers)
    negotiation_s = _negotiation_s(profile, cluster, workers)
    paths = []
    for case in range(_PHASES if cluster.exchange.cycle_s else 1):
        phase = (case + 0.5) / _PHASES
        looks = reduce_overlapped(gradients, cluster.exchange, allreduce_s, negotiation_s, phase)
        paths.append(critical_path(looks, compute_s, bytes_s))
    path = Path(*(statistics.fmean(parts) for parts in zip(*map(astuple, paths), strict=True)))
    return Step(sum(astuple(path)), compute_s, path, looks)


def _allreduce(profile: Profile, cluster: Cluster, workers: int) -> Callable[[float], float]:
    """The seconds of an allreduce by its bytes."""
    hosts, per_host = cluster.servers(workers)
    ways, reduce_s_per_byte = (profile.inside, cluster.between), profile.reduce_s_per_byte
    if cluster.algorithm in ("flat-ring", "gloo-ring"):
        cost_s: Callable[..., float] = flat_ring_s if cluster.algorithm == "flat-ring" else gloo_ring_s
    else:
        across = halving_doubling_s if cluster.algorithm == "halving-doubling" else ring_s
        cost_s = functools.partial(hierarchical_s, across=across)
    return lambda size_bytes: cost_s(size_bytes, hosts, per_host, *ways, reduce_s_per_byte)


def _negotiation_s(profile: Profile, cluster: Cluster, workers: int) -> float:
    """An allreduce of a few bytes: around the ring, or by recursive doubling."""
    if cluster.exchange.negotiation_s is not None:
        return cluster.exchange.negotiation_s
    way = cluster.between if cluster.servers(workers)[0] > 1 else profile.inside
    steps = {"none": 0, "doubling": math.ceil(math.log2(workers)), "ring": 2 * (workers - 1)}
    return steps[cluster.exchange.negotiation] * way.latency_s


def _prompt(profile: Profile, cluster: Cluster) -> tuple[Profile, Cluster]:
    """The same without latency."""
    return (
        replace(profile, inside=replace(profile.inside, latency_s=0.0)),
        replace(cluster, between=replace(cluster.between, latency_s=0.0)),
    )


@dataclass(frozen=True)
class Point:
    """What so many workers do.

    Args:
        workers: processes, one a device.
        minibatch: kn.
        step_seconds: of one iteration.
        images_per_second: of all workers.
        efficiency: images/s of a worker over those of one in a single full server, whose input keeps up.
        limited_by: the largest part, one of LIMITS; compute while all but a tenth of the step hides behind it.
        lost_to: the part that has grown most, per image and worker, against one full server; empty where nothing has.
        parts: seconds on the critical path by limit; they add up to the step.
    """

    workers: int
    minibatch: int
    step_seconds: float
    images_per_second: float
    efficiency: float
    limited_by: str
    lost_to: str
    parts: dict[str, float]


def predict(profile: Profile, cluster: Cluster, load: Load, workers: int) -> Point:
    """A step of so many workers.

    Args:
        profile: of the device.
        cluster: of the servers.
        load: of the iteration.
        workers: processes, one a device.

    Returns:
        The prediction.

    Raises:
        ValueError: workers that do not fill the servers, or more than there are virtual workers.

    Example:
        >>> from hvd_imagenet.planner.profile import load_profile
        >>> point = predict(load_profile("p100", "resnet50"), Cluster(Link(1e-5, 1e8), 8), Load(32), workers=64)
        >>> point.minibatch, point.limited_by
        (2048, 'link')
    """
    one = cluster.servers_of if load.minibatch is None else min(cluster.servers_of, load.images(1).workers)
    step, base = simulate(profile, cluster, load, workers), _parts(profile, _sated(cluster), load, one)
    parts = _parts(profile, cluster, load, workers)
    seconds, images = sum(parts.values()), load.images(workers).size
    share, base_share = images / workers, load.images(one).size / one
    grown = {limit: parts[limit] / share - base[limit] / base_share for limit in LIMITS}
    lost_to = max(LIMITS, key=grown.__getitem__)
    return Point(
        workers=workers,
        minibatch=images,
        step_seconds=seconds,
        images_per_second=images / seconds,
        efficiency=(share / seconds) / (base_share / sum(base.values())),
        limited_by=_limit(parts, step.compute_s),
        lost_to=lost_to if grown[lost_to] > 1e-12 else "",
        parts=parts,
    )


def _sated(cluster: Cluster) -> Cluster:
    """The cluster with input that keeps up."""
    return replace(cluster, feeding=Input())


def _limit(parts: dict[str, float], compute_s: float) -> str:
    """What most of the step is spent on, or waited for."""
    if starved := [limit for limit in ("input", "storage") if parts[limit] > 0]:
        return starved[0]
    if sum(parts.values()) - compute_s <= _HIDDEN * sum(parts.values()):
        return max(("compute", "stragglers"), key=parts.__getitem__)
    return max(LIMITS, key=parts.__getitem__)


def _parts(profile: Profile, cluster: Cluster, load: Load, workers: int) -> dict[str, float]:
    """The critical path by limit. A server's images must be read and decoded within the step, or it waits for them."""
    step = simulate(profile, cluster, load, workers)
    hosts, _ = cluster.servers(workers)
    images = load.images(workers).size / hosts
    fed_s = {"input": images / cluster.feeding.decoded_per_s, "storage": images / cluster.feeding.read_per_s}
    slower = max(fed_s, key=fed_s.__getitem__)
    parts = dict.fromkeys(LIMITS, 0.0)
    parts["compute"] = step.path.compute_s / profile.stragglers.expected_maximum(workers)
    parts["stragglers"] = step.path.compute_s - parts["compute"]
    parts["link"], parts["latency"] = step.path.link_s, step.path.latency_s
    parts[slower] = max(0.0, fed_s[slower] - step.seconds)
    return parts
