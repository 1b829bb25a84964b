"""What Horovod's own timeline shows of a step of the scaling lab, beside what the planner says of it.

The timeline tells when Horovod looked for tensors (CYCLE_START), and of each tensor when its allreduce began and ended;
tensors that were fused are reduced at the same time. It is written by rank 0, which knows when its backward ran.
"""

import bisect
import itertools
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvd_imagenet.planner.prediction import Step

TENSORS = "allreduce.tensors."  # of scaling_lab_rank.TimedNetwork


@dataclass(frozen=True)
class Seen:
    """A look that found tensors; seconds since the epoch.

    Args:
        look_s: when it looked.
        agreed_s: when the first allreduce began, since all ranks had agreed on it.
        end_s: when the last was over.
        allreduces: how many there were.
        tensors: of all of them.
    """

    look_s: float
    agreed_s: float
    end_s: float
    allreduces: int
    tensors: int


def seen(path: Path) -> list[Seen]:
    """The looks of a timeline that found gradients."""
    text = path.read_text().rstrip().rstrip(",")
    events = json.loads(text if text.endswith("]") else text + "]")  # Horovod leaves the list open when it ends
    named = [event for event in events if event.get("name") == "process_name"]
    begun_us = next(args["start_time_since_epoch_in_micros"] for args in _args(named) if "name" not in args)
    names = {event["pid"]: event["args"]["name"] for event in named if "name" in event["args"]}
    cycles_s = sorted(1e-6 * (begun_us + event["ts"]) for event in events if event.get("name") == "CYCLE_START")
    spans = sorted(
        (1e-6 * (begun_us + begin_us), 1e-6 * (begun_us + end_us))
        for pid, name in names.items()
        if name.startswith(TENSORS)
        for begin_us, end_us in _allreduces([event for event in events if event.get("pid") == pid and "ts" in event])
    )
    by_look: dict[float, list[tuple[float, float]]] = {}
    for span in spans:
        look_s = cycles_s[max(0, bisect.bisect_right(cycles_s, span[0]) - 1)]
        by_look.setdefault(look_s, []).append(span)
    return [
        Seen(look_s, found[0][0], max(end_s for _, end_s in found), _disjoint(found), len(found))
        for look_s, found in by_look.items()
    ]


def _args(events: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    return (event["args"] for event in events)


def _allreduces(events: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Begin and end of each reduction of a tensor: the last event before its next negotiation."""
    begins = [event["ts"] for event in events if event.get("name") == "ALLREDUCE"]
    nexts = [event["ts"] for event in events if event.get("name") == "NEGOTIATE_ALLREDUCE"][1:]
    ends = itertools.zip_longest(begins, nexts, fillvalue=float("inf"))
    return [(begin, max(event["ts"] for event in events if begin <= event["ts"] < end)) for begin, end in ends]


def _disjoint(spans: Sequence[tuple[float, float]]) -> int:
    """How many allreduces there were, one after another; of a fused one each tensor has a span."""
    count, end_s = 0, float("-inf")
    for begin, end in spans:
        count += begin >= end_s
        end_s = max(end, end_s)
    return count


@dataclass(frozen=True)
class Shares:
    """How a step communicates.

    Args:
        allreduces: of one step.
        looks: that found something.
        negotiation: its share of the step.
        communication: share of the step in which there was a negotiation that found something, or an allreduce.
        overlapped: share of the communication that came before backward was done.
    """

    allreduces: float
    looks: float
    negotiation: float
    communication: float
    overlapped: float

    def rounded(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in vars(self).items()}


def measured_shares(looks: list[Seen], found: dict[str, Any]) -> Shares:
    """Of the measured steps: medians over them.

    Args:
        looks: of the whole job.
        found: by rank 0: seconds of its steps, and when backward began and ended in each.
    """
    shares = []
    begins = [begin_s for begin_s, _ in found["backwards"]]
    for index, ((begin_s, done_s), step_s) in enumerate(zip(found["backwards"], found["seconds"], strict=True)):
        until_s = begins[index + 1] if index + 1 < len(begins) else done_s + step_s
        own = [look for look in looks if begin_s <= look.agreed_s < until_s]
        spans = [(look.look_s, look.agreed_s, look.end_s, look.allreduces) for look in own]
        shares.append(_shares(spans, done_s, step_s))
    return _medians(shares)


def predicted_shares(step: Step, negotiation_s: float) -> Shares:
    """The planner's, of one of the cases that it takes the mean of."""
    spans = [(look.look_s, look.look_s + negotiation_s, look.end_s, len(look.buckets)) for look in step.looks]
    return _shares(spans, step.compute_s, step.seconds)


def _shares(spans: Sequence[tuple[float, float, float, int]], done_s: float, step_s: float) -> Shares:
    """From (look, agreed, end, allreduces) of each look; done_s: when backward was done."""
    communication_s = sum(end_s - look_s for look_s, _, end_s, _ in spans)
    before_s = sum(max(0.0, min(end_s, done_s) - look_s) for look_s, _, end_s, _ in spans)
    return Shares(
        allreduces=sum(allreduces for *_, allreduces in spans),
        looks=len(spans),
        negotiation=sum(agreed_s - look_s for look_s, agreed_s, _, _ in spans) / step_s,
        communication=communication_s / step_s,
        overlapped=before_s / communication_s if communication_s else 0.0,
    )


def _medians(shares: list[Shares]) -> Shares:
    return Shares(
        *(statistics.median(values) for values in zip(*(vars(each).values() for each in shares), strict=True))
    )
