"""One step of a worker: forward, backward layer by layer, and Horovod's background thread, which reduces meanwhile.

The thread looks for gradients once a cycle. Those that are ready on all workers are agreed upon (negotiation), fused up
to a threshold in the order in which they came, and reduced one bucket after another; what has become ready in the
meantime waits for the next look. All workers are in step, since each cycle is a collective.
"""

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MIB = 2**20
# An allreduce of a few bits by recursive doubling (MPI) or around a ring (Gloo); or an order that is known beforehand.
NEGOTIATIONS = ("doubling", "ring", "none")


@dataclass(frozen=True)
class Gradient:
    """One tensor to reduce.

    Args:
        ready_s: when backward has computed it, from the beginning of the step.
        size_bytes: of the tensor.
    """

    ready_s: float
    size_bytes: int


@dataclass(frozen=True)
class Exchange:
    """How gradients are gathered into allreduces.

    Args:
        fusion_bytes: the most that are reduced at once; 0 reduces each tensor alone.
        cycle_s: between two looks for gradients; 0 reduces each as soon as it is there and the one before is done.
        negotiation: how the workers agree on what is ready before each cycle's allreduces, one of NEGOTIATIONS.
        negotiation_s: what that takes, where someone has measured it; None leaves it to the messages of `negotiation`.

    Raises:
        ValueError: there is no such negotiation.

    Example:
        >>> Exchange().fusion_bytes // MIB  # Horovod 0.28's defaults
        128
    """

    fusion_bytes: int = 128 * MIB
    cycle_s: float = 0.001
    negotiation: str = "doubling"
    negotiation_s: float | None = None

    def __post_init__(self) -> None:
        if self.negotiation not in NEGOTIATIONS:
            raise ValueError(f"negotiation must be one of {', '.join(NEGOTIATIONS)}, not {self.negotiation!r}")


@dataclass(frozen=True)
class Look:
    """What the thread did when it looked for gradients and found some.

    Args:
        ready_s: when the last of those that it found was ready, from the beginning of the step.
        look_s: when it looked.
        end_s: when all of them were reduced.
        buckets: (tensors, bytes) of each allreduce.
    """

    ready_s: float
    look_s: float
    end_s: float
    buckets: tuple[tuple[int, int], ...]


def reduce_overlapped(
    gradients: Sequence[Gradient],
    exchange: Exchange,
    allreduce_s: Callable[[float], float],
    negotiation_s: float,
    phase: float = 0.5,
) -> tuple[Look, ...]:
    """When the gradients of a step are reduced.

    Args:
        gradients: of one step, in the order in which they become ready.
        exchange: fusion and cycles.
        allreduce_s: seconds for a number of bytes.
        negotiation_s: of one cycle.
        phase: how long after the first gradient the first look comes, in cycles from 0 to 1; training and cycles are
            not in step.

    Returns:
        The looks that found something.

    Example:
        >>> ready = [Gradient(1.0, 4), Gradient(2.0, 4), Gradient(2.5, 4)]
        >>> for look in reduce_overlapped(ready, Exchange(128, cycle_s=0), lambda size: size / 2, 0.0):
        ...     print(look)
        Look(ready_s=1.0, look_s=1.0, end_s=3.0, buckets=((1, 4),))
        Look(ready_s=2.5, look_s=3.0, end_s=7.0, buckets=((2, 8),))
    """
    if not gradients:
        return ()
    looks, done, look_s = [], 0, gradients[0].ready_s + exchange.cycle_s * phase
    while done < len(gradients):
        if gradients[done].ready_s > look_s:
            look_s = _next_look_s(look_s, gradients[done].ready_s, max(exchange.cycle_s, negotiation_s))
        seen = bisect.bisect_right(gradients, look_s, lo=done, key=lambda gradient: gradient.ready_s)
        ready, done = gradients[done:seen], seen
        buckets = fused([gradient.size_bytes for gradient in ready], exchange.fusion_bytes)
        end_s = look_s + negotiation_s + sum(allreduce_s(sum(bucket)) for bucket in buckets)
        looks.append(Look(ready[-1].ready_s, look_s, end_s, tuple((len(each), sum(each)) for each in buckets)))
        look_s = max(look_s + exchange.cycle_s, end_s)
    return tuple(looks)


def _next_look_s(look_s: float, ready_s: float, period_s: float) -> float:
    """The first look that sees what becomes ready then, when there has been nothing to do for some cycles."""
    if period_s == 0:
        return ready_s
    return max(ready_s, look_s + math.ceil((ready_s - look_s) / period_s) * period_s)  # never before it by rounding


@dataclass(frozen=True)
class Path:
    """The critical path of a step: what its seconds were spent on, one after another.

    Args:
        compute_s: until the gradients were ready whose reduction ended the step.
        link_s: bytes on links, and their reduction.
        latency_s: messages, negotiation, and waiting for the next look.
    """

    compute_s: float
    link_s: float
    latency_s: float


def critical_path(looks: Sequence[Look], compute_s: float, bytes_s: Callable[[float], float]) -> Path:
    """Follows what ended the step back to the computation that it waited for.

    Args:
        looks: of the step, in order.
        compute_s: when the last backward ended.
        bytes_s: seconds of an allreduce of so many bytes on links without latency.

    Returns:
        Parts that add up to the step's time.

    Example:
        >>> looks = (Look(1.0, 1.0, 3.0, ((1, 4),)), Look(2.5, 3.0, 7.0, ((2, 8),)))
        >>> critical_path(looks, 2.5, lambda size: size / 4)
        Path(compute_s=1.0, link_s=3.0, latency_s=3.0)
    """
    if not looks or looks[-1].end_s <= compute_s:
        return Path(compute_s, 0.0, 0.0)
    link_s = 0.0
    for index in reversed(range(len(looks))):
        look = looks[index]
        link_s += sum(bytes_s(size_bytes) for _, size_bytes in look.buckets)
        if index == 0 or look.ready_s > looks[index - 1].end_s:
            break  # it found what the one before had not kept waiting
    return Path(look.ready_s, link_s, looks[-1].end_s - look.ready_s - link_s)


def fused(sizes_bytes: Sequence[int], threshold_bytes: int) -> list[list[int]]:
    """Which tensors are reduced at once: as Horovod does it, in order, up to the first that does not fit.

    Args:
        sizes_bytes: of the tensors that are ready.
        threshold_bytes: the most that a bucket of several may have.

    Returns:
        The sizes, bucket by bucket.

    Example:
        >>> fused([30, 80, 20, 50], threshold_bytes=100)
        [[30], [80, 20], [50]]
    """
    buckets: list[list[int]] = []
    room_bytes = 0
    for size_bytes in sizes_bytes:
        if not buckets or size_bytes > room_bytes:
            buckets.append([])
            room_bytes = threshold_bytes
        buckets[-1].append(size_bytes)
        room_bytes -= size_bytes
    return buckets
