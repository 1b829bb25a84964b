"""How long does each layer of a network take here, forward and backward? Writes a profile for `hvd-imagenet plan`.

Forward by hooks around the layers that have parameters; what lies between two of them (ReLU, pooling) is counted to the
former. Backward by the moments at which the gradients are complete, which is what an allreduce waits for. Medians.

    python benchmarks/record_profile.py --model resnet20 --per-worker 32 --json here.json
    hvd-imagenet plan --device here.json --model resnet20 --servers-of 1 --network 1gbit

The scaling lab has points of such a profile:

    python benchmarks/record_profile.py --steps 100 --json benchmarks/profiles/epyc.json
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from provenance import cpu_name, provenance
from torch import Tensor, nn

from hvd_imagenet.torch.models import MODELS

SIDES_PX = {"resnet50": 224, "resnet101": 224}
SMALL_SIDE_PX = 32
UNMEASURED = 2


def now_s() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Recorder:
    """Marks when each layer's forward begins and when its last gradient is complete."""

    def __init__(self, network: nn.Module) -> None:
        self.layers = {name: layer for name, layer in network.named_modules() if list(layer.parameters(recurse=False))}
        self.begun_s: dict[str, float] = {}
        self.complete_s: dict[str, float] = {}
        for name, layer in self.layers.items():
            layer.register_forward_pre_hook(lambda *_, name=name: self.begun_s.__setitem__(name, now_s()))
            for parameter in layer.parameters(recurse=False):
                parameter.register_post_accumulate_grad_hook(
                    lambda _, name=name: self.complete_s.__setitem__(name, now_s())
                )

    def times_s(self, backward_begun_s: float) -> dict[str, tuple[float, float]]:
        """Seconds forward and backward of each layer in the last step, in the order of its forward."""
        names = sorted(self.begun_s, key=self.begun_s.__getitem__)
        ends = [*(self.begun_s[name] for name in names[1:]), backward_begun_s]
        forward = {name: end - self.begun_s[name] for name, end in zip(names, ends, strict=True)}
        backward, last_s = {}, backward_begun_s
        for name in sorted(names, key=self.complete_s.__getitem__):
            backward[name], last_s = self.complete_s[name] - last_s, self.complete_s[name]
        return {name: (forward[name], backward[name]) for name in names}


def record(model: str, images: int, steps: int) -> tuple[list[Any], float]:
    """The layers as a profile has them, and what is left of a step."""
    side, device = SIDES_PX.get(model, SMALL_SIDE_PX), "cuda" if torch.cuda.is_available() else "cpu"
    network = MODELS[model]().to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    recorder, rounds, others_s = Recorder(network), [], []
    x = torch.randn(images, 3, side, side, device=device)
    y = torch.zeros(images, dtype=torch.long, device=device)
    for _ in range(UNMEASURED + steps):
        begin_s = now_s()
        loss: Tensor = nn.functional.cross_entropy(network(x), y)
        backward_begun_s = now_s()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        step_s, times = now_s() - begin_s, recorder.times_s(backward_begun_s)
        rounds.append(times)
        others_s.append(step_s - sum(forward_s + backward_s for forward_s, backward_s in times.values()))
    rounds, others_s = rounds[UNMEASURED:], others_s[UNMEASURED:]
    layers = []
    for name in rounds[0]:
        tensors = [parameter.numel() for parameter in recorder.layers[name].parameters(recurse=False)]
        both = [statistics.median(taken[name][way] for taken in rounds) for way in (0, 1)]
        layers.append([name, tensors, *(round(seconds, 9) for seconds in both)])
    return layers, max(0.0, statistics.median(others_s))


def profile_of(model: str, per_worker: int, threads: int, layers: list[Any], other_s: float) -> dict[str, Any]:
    """What `plan --device` reads; what one process cannot measure is assumed, and says so."""
    values = {
        "other_s": (other_s, "measured", "what is left of a step: loss and weight update"),
        "inside_bytes_per_s": (1e9, "assumed", "between processes of a host"),
        "inside_latency_s": (2e-5, "assumed", "between processes of a host"),
        "reduce_bytes_per_s": (2e9, "assumed", "a core adds 4-byte numbers"),
        "latency_s": (5e-5, "assumed", "a message over TCP"),
        "payload_share": (0.956, "derived", "1,448 of the 1,514 bytes of an Ethernet frame"),
        "stragglers": ("none", "assumed", "one process was measured"),
    }
    return {
        **provenance(f"one process of {threads} thread{'s' if threads > 1 else ''}"),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name(),
        "per_worker": per_worker,
        "parameters": {
            name: {"value": value, "kind": kind, "source": source} for name, (value, kind, source) in values.items()
        },
        "layers": {model: layers},
    }


def as_text(profile: dict[str, Any]) -> str:
    """JSON with a layer a line."""
    [(model, layers)] = profile["layers"].items()
    head = json.dumps({name: value for name, value in profile.items() if name != "layers"}, indent=1)
    rows = ",\n".join(f"   {json.dumps(layer)}" for layer in layers)
    return f'{head[:-2]},\n "layers": {{\n  "{model}": [\n{rows}\n  ]\n }}\n}}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="resnet20")
    parser.add_argument("--per-worker", type=int, default=32, metavar="N")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", "--write", dest="json", type=Path, required=True, metavar="FILE", help="the profile")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    layers, other_s = record(arguments.model, arguments.per_worker, arguments.steps)
    profile = profile_of(arguments.model, arguments.per_worker, arguments.threads, layers, other_s)
    arguments.json.write_text(as_text(profile))
    total_s = other_s + sum(forward_s + backward_s for _, _, forward_s, backward_s in layers)
    print(f"{arguments.model}, {arguments.per_worker} images: {total_s:.3f} s a step, {len(layers)} layers")


if __name__ == "__main__":
    main()
