"""The points of the scaling lab: their settings, and what the planner says of them."""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hvd_imagenet.planner.asked import bits_per_s
from hvd_imagenet.planner.costs import Link
from hvd_imagenet.planner.prediction import Cluster, Load, Step, simulate
from hvd_imagenet.planner.profile import Layer, Profile, load_profile
from hvd_imagenet.planner.stragglers import Stragglers
from hvd_imagenet.planner.timeline import MIB, Exchange

# Packets leave in groups of so many; of each 1,448 of 1,514 bytes are payload, and each group is acknowledged by a
# packet of 66 bytes on the link of the other direction, which carries as much.
SEGMENTS = 5
PAYLOAD_SHARE = SEGMENTS * 1448 / (SEGMENTS * 1514 + 66)
# The bytes take as long as in the paper's cluster: there 2·31/32 of them at 50 Gbit/s · 12.8/15, here 2·15/16 of them
# at this rate · PAYLOAD_SHARE.
PAPERS_NETWORK = "43gbit"
PAPERS_LATENCY_US = 14.4  # the P100's profile says why
# Between processes of one host nothing is shaped: Gloo's bus bandwidth there, which only --quick depends on.
INSIDE_BYTES_PER_S = 0.6e9
# Gloo has one ring through all ranks; MPI's algorithms are those that `launch --allreduce-algorithm` names.
ALGORITHMS = {"gloo": "gloo-ring", "ring": "flat-ring", "rabenseifner": "halving-doubling"}
# What the devices are: a profile and the network that they train.
HERE = Path(__file__).parent / "profiles" / "epyc.json"
DEVICES = {"p100": ("p100", "resnet50"), "epyc": (str(HERE), "resnet20")}
MESSAGES_CYCLE_S, MESSAGES_AT_ONCE, MESSAGES_ROUNDS = 0.5e-3, 40, 60


@dataclass(frozen=True)
class Setting:
    """One point, in the device's time and sizes.

    Args:
        hosts: that take part.
        per_host: ranks of each.
        link: a host's.
        cycle_ms: Horovod's cycle time.
        fusion_mb: its fusion threshold, MiB.
        spread: of the devices' pace from step to step.
        latency_us: of the way between two hosts.
        over: gloo, or the algorithm of MPI, one of ALGORITHMS.
        device: one of DEVICES.
    """

    hosts: int
    per_host: int
    link: str = PAPERS_NETWORK
    cycle_ms: float = 1.0
    fusion_mb: float = 128.0
    spread: float = 0.0
    latency_us: float = PAPERS_LATENCY_US
    over: str = "gloo"
    device: str = "p100"

    def __str__(self) -> str:
        words = [
            f"{self.ranks} ranks on {self.hosts} host{'s' if self.hosts > 1 else ''}",
            self.link,
            f"{self.latency_us:g} us",
            "Gloo" if self.over == "gloo" else f"MPI's {self.over}",
            f"cycle {self.cycle_ms:g} ms",
            f"fusion {self.fusion_mb:g} MiB",
        ]
        if self.spread:
            words.append(f"spread {self.spread:g}")
        if self.device != "p100":
            words.append(f"{DEVICES[self.device][1]} on {self.device}")
        return ", ".join(words)

    @property
    def ranks(self) -> int:
        return self.hosts * self.per_host

    @property
    def messages(self) -> int:
        """How many of an allreduce come one after another."""
        return 2 * int(math.log2(self.ranks)) if self.over == "rabenseifner" else 2 * (self.ranks - 1)

    @property
    def factor(self) -> float:
        """Longer times, smaller tensors, so that two cores stay under half load, and packets are small beside tensors.

        What the cores do grows with the square of the ranks; a CPU is slow as it is, and ResNet-20 small.
        """
        if self.device == "epyc":
            return 4.0
        if self.hosts == 1:
            return 8.0  # --quick
        return 40.0 if self.ranks > 8 else 20.0

    @property
    def profile(self) -> Profile:
        return load_profile(*DEVICES[self.device])


LARGEST, EIGHT, FOUR, TWO = Setting(4, 4), Setting(4, 2), Setting(4, 1), Setting(2, 1)
SLOW = "10gbit"  # where ResNet-50's bytes no longer hide behind a P100's backward
# At the paper's ratio of computation to communication; the best of them is measured again.
SWEEP = [
    LARGEST,
    *(replace(LARGEST, cycle_ms=cycle_ms) for cycle_ms in (2.5, 10.0)),
    replace(LARGEST, fusion_mb=0.0),
]
FULL = [
    *SWEEP,
    *(replace(LARGEST, link=link) for link in (SLOW, "5gbit")),
    *(replace(EIGHT, link=link) for link in (PAPERS_NETWORK, SLOW, "5gbit")),
    *(replace(FOUR, link=link) for link in (PAPERS_NETWORK, SLOW, "5gbit", "2.5gbit")),
    *(replace(TWO, link=link) for link in (PAPERS_NETWORK, "5gbit", "2.5gbit")),
    replace(EIGHT, link=SLOW, cycle_ms=20.0),
    *(replace(EIGHT, link=SLOW, fusion_mb=fusion_mb) for fusion_mb in (0.0, 4.0)),
    # Latency alone: nothing is fused, and a message takes as long as in a cloud.
    replace(FOUR, latency_us=100.0, fusion_mb=0.0),
    replace(EIGHT, latency_us=100.0, fusion_mb=0.0),
    *(replace(FOUR, over=over, link=link) for over in ("ring", "rabenseifner") for link in (SLOW, "5gbit")),
    replace(FOUR, over="rabenseifner", latency_us=100.0, fusion_mb=0.0),
    replace(EIGHT, over="rabenseifner", link=SLOW),
    # Profile and network of a small cluster of CPUs, with the cycle that `launch` sets there.
    *(Setting(4, per_host, "100mbit", 20.0, latency_us=50.0, device="epyc") for per_host in (1, 2)),
]
QUICK = [Setting(1, 2, latency_us=0.0)]
TIMELINE = replace(EIGHT, link=SLOW)  # what Horovod says of itself
FOLLOWING = [LARGEST, LARGEST, TIMELINE]  # as long as what is measured when all points are


@dataclass(frozen=True)
class Messages:
    """What ranks have measured of short messages, before any point.

    Args:
        message_s: one of those that an allreduce sends one after another.
        negotiation_s: to agree on what is ready.
    """

    message_s: float
    negotiation_s: float


def messages_of(found: dict[str, float], setting: Setting) -> Messages:
    """From seconds of one allreduce alone and, each, of many in a row; between them lies the next look.

    Alone it is an agreement and a reduction, of about as many words, after a look: the lower quartile of the wait for
    that is a quarter of a cycle, or of an agreement where that takes longer.
    """
    negotiation_s = found["alone_s"] / 2.25
    if negotiation_s < MESSAGES_CYCLE_S:
        negotiation_s = max(0.0, found["alone_s"] - MESSAGES_CYCLE_S / 4) / 2
    before_s = MESSAGES_CYCLE_S / 2 + 2 * negotiation_s
    each_s = found["in_a_row_s"] - before_s / MESSAGES_AT_ONCE
    return Messages(max(1e-6, each_s / setting.messages), negotiation_s)


def assumed_messages(setting: Setting, factor: float) -> Messages:
    """For an estimate of the time that a point takes: 20 us of a core for each rank's message, and the way."""
    message_s = 2e-5 * setting.ranks + 2e-6 * setting.latency_us * factor / setting.per_host
    return Messages(message_s, setting.messages * message_s)


def scaled(profile: Profile, factor: float, ranks: int) -> Profile:
    """The device as the lab has it: slower, with smaller tensors; without stragglers of its own.

    No tensor has fewer numbers than Gloo sends segments of it, as none has undiluted: empty ones are left out.
    """
    layers = tuple(
        Layer(
            layer.name,
            tuple(max(2 * ranks, round(elements / factor)) for elements in layer.tensors),
            factor * layer.forward_s,
            factor * layer.backward_s,
        )
        for layer in profile.layers
    )
    return replace(profile, layers=layers, other_s=factor * profile.other_s, stragglers=Stragglers())


def compute_s(profile: Profile) -> float:
    """Of one worker's step: the step of a planner who takes communication for free."""
    return profile.other_s + profile.forward_s + profile.backward_s


def predicted(setting: Setting, factor: float, messages: Messages, reduce_s_per_byte: float) -> Step:
    """The planner's step of a setting, in the lab's time."""
    way = Link(messages.message_s, INSIDE_BYTES_PER_S)
    profile = replace(
        scaled(setting.profile, factor, setting.ranks),
        inside=way,
        latency_s=messages.message_s,
        reduce_s_per_byte=reduce_s_per_byte,
        stragglers=Stragglers("normal", setting.spread),
    )
    exchange = Exchange(
        int(setting.fusion_mb * MIB / factor),
        1e-3 * setting.cycle_ms * factor,
        negotiation_s=messages.negotiation_s,
    )
    link = Link(messages.message_s, bits_per_s(setting.link) / factor**2 / 8 * PAYLOAD_SHARE)
    cluster = Cluster(link, setting.per_host, ALGORITHMS[setting.over], exchange)
    return simulate(profile, cluster, Load(profile.per_worker), setting.ranks)


def has_settings(point: dict[str, Any], setting: Setting) -> bool:
    """Whether a point of the result file was measured with these settings."""
    return all(point.get(name) == value for name, value in asdict(setting).items())


def is_of(point: dict[str, Any], setting: Setting) -> bool:
    """The same, for the device as its profile is now."""
    return has_settings(point, setting) and point.get("compute_s") == round(compute_s(setting.profile), 6)
