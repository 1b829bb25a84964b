"""Virtual workers one after another, or several fused in one pass: which is faster on one CPU process of one thread?

Each setting computes the same images with the same statistics. They take turns; a ratio is the median over rounds of
(seconds one after another / seconds fused) of the same round, both in the layout that suits them better.

    python benchmarks/virtual_workers.py --json benchmarks/results/virtual_workers.json
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from provenance import provenance
from step_overhead import CHANNELS_LAST, LOOPS, seconds_of

# Name: model, image size, n, workers of this process.
CASES = {
    "resnet8_32px_n8": ("resnet8", 32, 8, 4),
    "resnet8_32px_n32": ("resnet8", 32, 32, 4),
    "resnet20_32px_n32": ("resnet20", 32, 32, 4),
    "resnet50_128px_n8": ("resnet50", 128, 8, 4),
}
ITERATIONS = 5


def measure(case: str) -> dict[str, float]:
    model, image_size, per_worker, workers = CASES[case]
    seconds = {}
    for layout in ("contiguous", "channels_last"):
        for per_pass in (1, workers):
            options = [f"workers={workers}", f"per_pass={per_pass}"]
            options += [CHANNELS_LAST] if layout == "channels_last" else []
            words = ["ours", model, str(image_size), str(per_worker * workers), str(ITERATIONS), *options]
            name = f"{layout}_{'fused' if per_pass > 1 else 'sequential'}"
            seconds[name] = seconds_of([sys.executable, LOOPS], words)
            print(f"{case} {name}: {seconds[name]:.3f} s an iteration", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
    for _ in range(arguments.rounds):
        for case in CASES:
            rounds[case].append(measure(case))
    ratios = {
        f"{case}_fused_vs_sequential": round(statistics.median(map(ratio_of_round, taken)), 3)
        for case, taken in rounds.items()
    }
    print(json.dumps(ratios, indent=1))
    if arguments.json:
        result = {**provenance("1 process of 1 thread"), "ratios": ratios, "seconds_per_iteration": rounds}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def ratio_of_round(seconds: dict[str, float]) -> float:
    best = {
        way: min(seconds[f"{layout}_{way}"] for layout in ("contiguous", "channels_last"))
        for way in ("sequential", "fused")
    }
    return best["sequential"] / best["fused"]


if __name__ == "__main__":
    main()
