"""Virtual workers one after another, or several fused in one pass: which is faster on one CPU process of one thread?

Each setting computes the same images with the same statistics. They take turns, every second round in reverse; between
their turns they are stopped (turns.py). A ratio is the median over rounds of (seconds one after another / seconds
fused) of the same round, both in the layout that suits them better.

    python benchmarks/virtual_workers.py --json benchmarks/results/virtual_workers.json
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from provenance import provenance
from step_contestants import CHANNELS_LAST, TORCH_LOOPS, Case, Seconds, job, spreads
from turns import Contestant, spread

WORKERS = 4
# Images are those of all workers.
CASES = {
    "resnet8_32px_n8": Case("resnet8", 32, 8 * WORKERS, uncounted=2, counted=10),
    "resnet8_32px_n32": Case("resnet8", 32, 32 * WORKERS, uncounted=1, counted=5),
    "resnet20_32px_n32": Case("resnet20", 32, 32 * WORKERS, uncounted=1, counted=3),
    "resnet50_128px_n8": Case("resnet50", 128, 8 * WORKERS, uncounted=0, counted=1),
}
LAYOUTS, WAYS = ("contiguous", "channels_last"), {"sequential": 1, "fused": WORKERS}


def contestants(case: Case, layouts: Sequence[str]) -> dict[str, Contestant]:
    """A process for each layout and way."""
    found = {}
    for layout in layouts:
        for way, per_pass in WAYS.items():
            words = [f"workers={WORKERS}", f"per_pass={per_pass}"]
            words += [CHANNELS_LAST] if layout == "channels_last" else []
            found[f"{layout}_{way}"] = job([sys.executable, TORCH_LOOPS, "ours", *case.words, *words], processes=1)
    return found


def ratio_of_round(seconds: Mapping[str, float]) -> float:
    """The better layout of one after another over that of fused."""
    best = {way: min(value for name, value in seconds.items() if name.endswith(way)) for way in WAYS}
    return best["sequential"] / best["fused"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="one small case in one layout, one round: seconds")
    arguments = parser.parse_args()
    cases, layouts, count, starts = CASES, LAYOUTS, arguments.rounds, 2
    if arguments.quick:
        cases, layouts, count, starts = {"resnet8_32px_n2": Case("resnet8", 32, 8, 0, 2)}, LAYOUTS[1:], 1, 1
    rounds: dict[str, list[Seconds]] = {
        name: case.turns(name, contestants(case, layouts), count, starts) for name, case in cases.items()
    }
    ratios = {
        f"{name}_fused_vs_sequential": spread(list(map(ratio_of_round, taken)), 3) for name, taken in rounds.items()
    }
    result = {
        **provenance("1 process of 1 thread"),
        "ratios": {name: each["median"] for name, each in ratios.items()},
        "quartiles": {name: each["quartiles"] for name, each in ratios.items()},
        "seconds_per_iteration": {name: spreads({name: taken}) for name, taken in rounds.items()},
        "rounds": rounds,
    }
    print(json.dumps({name: result[name] for name in ("seconds_per_iteration", "ratios")}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
