"""Horovod's timeline shows that gradients are reduced while backprop runs, several tensors at a time."""

import itertools
import json
from pathlib import Path
from typing import Any

from ranks import run_ranks

MARK = "backward-is-done"
ITERATIONS = 3


def train_resnet20() -> None:
    import horovod.torch as hvd
    import torch

    from hvd_imagenet.core.minibatch import Minibatch
    from hvd_imagenet.torch import DistributedOptimizer
    from hvd_imagenet.torch.models import resnet20

    model = resnet20()
    inner = torch.optim.SGD(model.parameters(), lr=0.01)
    optimizer: Any = DistributedOptimizer(inner, model.named_parameters(), Minibatch(128, 64))
    for iteration in range(ITERATIONS):
        loss = torch.nn.functional.cross_entropy(model(torch.randn(64, 3, 32, 32)), torch.arange(64) % 10)
        optimizer.zero_grad()
        loss.backward()
        # Enqueued as soon as backprop has ended; its own reduction may come later.
        handle = hvd.allreduce_async_(torch.ones(1), name=f"{MARK}-{iteration}")
        optimizer.step()
        hvd.synchronize(handle)


def read_timeline(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Events by tensor; Horovod leaves the list open when it ends."""
    text = path.read_text().rstrip().rstrip(",")
    events = json.loads(text if text.endswith("]") else text + "]")
    named = [event for event in events if event.get("name") == "process_name" and "name" in event["args"]]
    names = {event["pid"]: event["args"]["name"] for event in named}
    by_tensor: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if "ts" in event:
            by_tensor.setdefault(names.get(event["pid"], ""), []).append(event)
    return by_tensor


def starts(events: list[dict[str, Any]], name: str) -> list[int]:
    """When a phase of a tensor began, microseconds."""
    return [event["ts"] for event in events if event.get("ph") == "B" and event.get("name") == name]


def ends_of_allreduce(events: list[dict[str, Any]]) -> list[int]:
    """When each reduction of a tensor was over: the last event before the next negotiation."""
    negotiations = [*starts(events, "NEGOTIATE_ALLREDUCE"), float("inf")]
    return [
        max(event["ts"] for event in events if begin <= event["ts"] < end)
        for begin, end in itertools.pairwise(negotiations)
    ]


def test_reduction_overlaps_backprop_and_is_fused(tmp_path: Path) -> None:
    path = tmp_path / "timeline.json"
    # Backprop takes long enough for many looks of Horovod at what is ready, and each finds several gradients.
    run_ranks(2, train_resnet20, HOROVOD_TIMELINE=str(path), HOROVOD_CYCLE_TIME="5")
    timeline = read_timeline(path)
    gradients = {name.removeprefix("allreduce."): events for name, events in timeline.items() if MARK not in name}
    # A phase of negotiation holds an event of every rank, named by its number, when that rank's tensor was ready.
    marks = [
        max(event["ts"] for event in events if event["ph"] == "X" and event.get("name") in ("0", "1"))
        for iteration in range(ITERATIONS)
        for name, events in timeline.items()
        if name.endswith(f"{MARK}-{iteration}")
    ]
    assert len(marks) == ITERATIONS
    last_layer = gradients["fc.weight"]
    for iteration, mark in enumerate(marks):
        begun, ended = starts(last_layer, "ALLREDUCE")[iteration], ends_of_allreduce(last_layer)[iteration]
        assert begun < ended < mark, "fc's gradient was not reduced before the slower rank's backprop had ended"
        first_layer = starts(gradients["conv1.weight"], "NEGOTIATE_ALLREDUCE")[iteration]
        assert starts(last_layer, "NEGOTIATE_ALLREDUCE")[iteration] < first_layer
    copied = [name for name, events in gradients.items() if starts(events, "MEMCPY_IN_FUSION_BUFFER")]
    assert len(copied) > 20, "of 65 gradients hardly any was fused with another"
