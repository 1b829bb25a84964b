"""Is our training step as fast as a bare Horovod loop, as torch DistributedDataParallel and as one process alone?

On 2 ranks of one thread, each on a core. Each contestant computes the same network on the same number of images a rank.
Contestants of a group take turns, ours beside its peers; between their turns they are stopped (turns.py). A ratio is
the median over rounds of (peer's seconds / ours) within a round: higher is better for us.

- ResNet-50 at 224 px and ResNet-20 at 32 px in PyTorch: resnet50_vs_bare_horovod (started by `launch` too) and
  _as_started_upstream; resnet50_vs_ddp, that of DDP's settings and layouts with the least median, against ours in the
  same layout; resnet50_channels_last_vs_ddp_kept_memory, channels last with the settings of memory that `launch` makes;
  resnet50_contiguous_vs_ddp_contiguous, as DDP's documentation writes it (NCHW); resnet50_vs_two_singles,
  two processes at the same time that nothing connects, so that only memory and clock are shared as ours share them;
  resnet50_vs_single, one process that has the machine for itself. All per rank: 2 ranks do twice the images of one.
- Keras: model.fit with our optimizer against the same step in two processes that nothing connects (keras_vs_single),
  against Horovod's bare grouped allreduce in it (keras_vs_bare_allreduce), and against the former plus what the latter
  adds (keras_vs_single_net_of_allreduce: single / (ours − (bare − single))); with ResNet-20, and with ResNet-50
  (keras_resnet50_…).

    python benchmarks/step_overhead.py --json benchmarks/results/step_overhead.json
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from provenance import provenance
from step_contestants import (
    KERAS_RESNET8,
    KERAS_RESNET20,
    KERAS_RESNET50,
    RESNET8,
    RESNET20,
    RESNET50,
    Case,
    Seconds,
    keras_contestants,
    machine_words,
    spreads,
    torch_contestants,
)
from turns import compared, spread

# Who takes turns, neighbours beside each other.
GROUPS = {
    "bare_horovod": ("bare_horovod", "ours", "bare_horovod_as_started_upstream"),
    "ddp": ("ddp", "ours", "ddp_tuned"),
    "channels_last": (
        "ddp_tuned_channels_last",
        "ours_channels_last",
        "ddp_tuned_channels_last_kept_memory",
        "two_singles",
        "single",
    ),
}
QUICK_GROUP = ("ours_channels_last", "single")
KERAS_GROUP = ("bare_allreduce", "ours", "two_singles")
# Of DDP: its group and ours in the same layout.
DDP = {
    "ddp": ("ddp", "ours"),
    "ddp_tuned": ("ddp", "ours"),
    "ddp_tuned_channels_last": ("channels_last", "ours_channels_last"),
}
# Ours, channels last, against each of them, by the ratio's name.
CHANNELS_LAST_PEERS = {
    "ddp_tuned_channels_last_kept_memory": "channels_last_vs_ddp_kept_memory",
    "two_singles": "vs_two_singles",
    "single": "vs_single",
}
# Of a case: rounds of each group.
Groups = dict[str, list[Seconds]]


def torch_case(case: Case, groups: Mapping[str, Sequence[str]], rounds: int, starts: int) -> Groups:
    every = torch_contestants(case)
    return {
        group: case.turns(f"{case.model} {group}", {name: every[name] for name in names}, rounds, starts)
        for group, names in groups.items()
    }


def torch_ratios(model: str, taken: Groups) -> dict[str, list[float]]:
    """All rounds of each ratio, of those whose contestants were there."""
    medians = {name: found["median"] for name, found in spreads(taken).items()}
    found = {}
    if "ddp" in medians:
        best = min(DDP, key=medians.__getitem__)
        group, ours = DDP[best]
        found[f"{model}_vs_ddp"] = compared(taken[group], [best], ours)
        found[f"{model}_contiguous_vs_ddp_contiguous"] = compared(taken["ddp"], ["ddp"], "ours")
    for peer in ("bare_horovod", "bare_horovod_as_started_upstream"):
        if peer in medians:
            found[f"{model}_vs_{peer}"] = compared(taken["bare_horovod"], [peer], "ours")
    for peer, name in CHANNELS_LAST_PEERS.items():
        if peer in medians:
            found[f"{model}_{name}"] = compared(taken["channels_last"], [peer], "ours_channels_last")
    return found


def keras_ratios(prefix: str, rounds: Sequence[Seconds]) -> dict[str, list[float]]:
    """The same of model.fit."""
    single = next(name for name in ("two_singles", "single") if name in rounds[0])
    found = {f"{prefix}_vs_single": compared(rounds, [single], "ours")}
    if "bare_allreduce" in rounds[0]:
        net = [taken[single] / (taken["ours"] - taken["bare_allreduce"] + taken[single]) for taken in rounds]
        found[f"{prefix}_vs_single_net_of_allreduce"] = net
        found[f"{prefix}_vs_bare_allreduce"] = compared(rounds, ["bare_allreduce"], "ours")
    return found


def torch_part(rounds: int) -> tuple[dict[str, list[float]], dict[str, Groups]]:
    """Ratios and seconds of the PyTorch loops."""
    without = {**GROUPS, "bare_horovod": GROUPS["bare_horovod"][:2]}
    taken = {
        "resnet50": torch_case(RESNET50, GROUPS, rounds, starts=2),
        "resnet20": torch_case(RESNET20, without, rounds, starts=2),
    }
    return torch_ratios("resnet50", taken["resnet50"]) | torch_ratios("resnet20", taken["resnet20"]), taken


def keras_part(rounds: int) -> tuple[dict[str, list[float]], dict[str, Groups]]:
    """The same of model.fit."""
    ratios: dict[str, list[float]] = {}
    taken: dict[str, Groups] = {}
    for name, prefix, case in (
        ("keras_resnet20", "keras", KERAS_RESNET20),
        ("keras_resnet50", "keras_resnet50", KERAS_RESNET50),
    ):
        every = keras_contestants(case)
        found = case.turns(name, {each: every[each] for each in KERAS_GROUP}, rounds, starts=1)
        ratios |= keras_ratios(prefix, found)
        taken[name] = {"keras": found}
    return ratios, taken


def quick_torch() -> tuple[dict[str, list[float]], dict[str, Groups]]:
    """A small network, and few contestants."""
    taken = {"resnet8": torch_case(RESNET8, {"channels_last": QUICK_GROUP}, rounds=1, starts=1)}
    return torch_ratios("resnet8", taken["resnet8"]), taken


def quick_keras() -> tuple[dict[str, list[float]], dict[str, Groups]]:
    """One rank and nobody to compare it with: TensorFlow's import is most of it."""
    ours = keras_contestants(KERAS_RESNET8, ranks=1)["ours"]
    return {}, {"keras_resnet8": {"keras": KERAS_RESNET8.turns("keras_resnet8", {"ours": ours}, rounds=1, starts=1)}}


def images_per_s(taken: Mapping[str, Groups]) -> dict[str, Any]:
    images = {"resnet50": RESNET50.images, "resnet20": RESNET20.images, "resnet8": RESNET8.images}
    images |= {"keras_resnet50": KERAS_RESNET50.images, "keras_resnet8": KERAS_RESNET8.images}
    return {name: spreads(groups, images.get(name, KERAS_RESNET20.images)) for name, groups in taken.items()}


def result(ratios: Mapping[str, list[float]], taken: Mapping[str, Groups], old: Mapping[str, Any]) -> dict[str, Any]:
    """What --json holds; with the provenance of each part, since they may be of different days."""
    here = provenance(machine_words())
    parts = {
        "ratios": {name: spread(rounds, 3)["median"] for name, rounds in ratios.items()},
        "quartiles": {name: spread(rounds, 3)["quartiles"] for name, rounds in ratios.items()},
        "images_per_s_of_a_rank": images_per_s(taken),
        "seconds_per_iteration": {name: spreads(groups) for name, groups in taken.items()},
        "rounds": dict(taken),
        "provenance": dict.fromkeys(taken, here),
    }
    return here | {name: {**old.get(name, {}), **part} for name, part in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", choices=("torch", "keras"), help="keep the other's figures of an earlier --json FILE")
    parser.add_argument("--quick", action="store_true", help="ResNet-8, one round, few contestants: seconds")
    arguments = parser.parse_args()
    parts = {"torch": lambda: torch_part(arguments.rounds), "keras": lambda: keras_part(arguments.rounds)}
    if arguments.quick:
        parts = {"torch": quick_torch, "keras": quick_keras}
    ratios: dict[str, list[float]] = {}
    taken: dict[str, Groups] = {}
    for name, part in parts.items():
        if arguments.only in (None, name):
            part_ratios, part_taken = part()
            ratios |= part_ratios
            taken |= part_taken
    kept = arguments.only and arguments.json and arguments.json.exists()
    found = result(ratios, taken, json.loads(arguments.json.read_text()) if kept else {})
    print(json.dumps({name: found[name] for name in ("images_per_s_of_a_rank", "ratios")}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
