"""How often should Horovod's thread look for tensors where ranks compute on CPUs? `launch` sets what follows from this.

Rarely, and a step waits for the next look; often, and the thread takes time from the core that computes. So whole
steps decide, of `train` and of model.fit with our optimizer, on 2 ranks of one thread, each on a core. Jobs of each
cycle time take turns (turns.py). of_fastest is the speed at a cycle time / that at the fastest one, by medians;
its `least` is that of the step that suffers most from it. A ratio, resnet20_vs_best_cycle, is the speed at the cycle
time that `launch` sets / that at the fastest one, the median over rounds.

    python benchmarks/cycle_time.py --json benchmarks/results/cycle_time.json
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from provenance import provenance
from step_contestants import (
    CHANNELS_LAST,
    KERAS_RESNET20,
    RESNET8,
    RESNET20,
    RESNET50,
    Case,
    Seconds,
    keras_contestants,
    machine_words,
    spreads,
    torch_ours,
)
from turns import Contestant, compared, spread

from hvd_imagenet.launcher.tuning import CPU_CYCLE_TIME_MS

CYCLE_TIMES_MS = (1, 2, 5, 10, 20)
# Five jobs of ResNet-50 stand in memory at once; with half the images they need half of it, 8 GB.
CASES = {"resnet20": RESNET20, "keras_resnet20": KERAS_RESNET20, "resnet50": RESNET50._replace(images=4)}


def contestants(name: str, case: Case, cycle_times_ms: Sequence[int], ranks: int = 2) -> dict[str, Contestant]:
    """A job for each cycle time, by its milliseconds."""
    found = {}
    for cycle_ms in cycle_times_ms:
        options = ["--cycle-time-ms", str(cycle_ms)]
        if name.startswith("keras"):
            found[str(cycle_ms)] = keras_contestants(case, options, ranks)["ours"]
        else:
            found[str(cycle_ms)] = torch_ours(case, CHANNELS_LAST, options=options, ranks=ranks)
    return found


def of_fastest(rounds: Mapping[str, Sequence[Seconds]]) -> dict[str, dict[str, float]]:
    """Of each cycle time: the share of the fastest's speed in every case, and the least of them."""
    medians = {
        name: {each: found["median"] for each, found in spreads({name: rounds[name]}).items()} for name in rounds
    }
    cycle_times = next(iter(medians.values()))
    shares = {
        cycle_ms: {name: round(min(of.values()) / of[cycle_ms], 3) for name, of in medians.items()}
        for cycle_ms in cycle_times
    }
    return {cycle_ms: {**each, "least": min(each.values())} for cycle_ms, each in shares.items()}


def result(rounds: Mapping[str, Sequence[Seconds]], cases: Mapping[str, Case]) -> dict[str, Any]:
    ratios = {}
    for name, taken in rounds.items():
        medians = {cycle_ms: found["median"] for cycle_ms, found in spreads({name: taken}).items()}
        best = min(medians, key=medians.__getitem__)
        ratios[f"{name}_vs_best_cycle"] = compared(taken, [best], str(CPU_CYCLE_TIME_MS))
    return {
        **provenance(machine_words()),
        "launch_sets_ms": CPU_CYCLE_TIME_MS,
        "ratios": {name: spread(each, 3)["median"] for name, each in ratios.items()},
        "quartiles": {name: spread(each, 3)["quartiles"] for name, each in ratios.items()},
        "of_fastest": of_fastest(rounds),
        "images_per_s_of_a_rank": {name: spreads({name: taken}, cases[name].images) for name, taken in rounds.items()},
        "rounds": dict(rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="one rank, ResNet-8, two cycle times, one round: seconds")
    arguments = parser.parse_args()
    cases, cycle_times_ms, rounds, starts, ranks = CASES, CYCLE_TIMES_MS, arguments.rounds, 2, 2
    if arguments.quick:
        cases, cycle_times_ms, rounds, starts, ranks = {"resnet8": RESNET8}, (1, CPU_CYCLE_TIME_MS), 1, 1, 1
    cycle_times_ms = sorted({*cycle_times_ms, CPU_CYCLE_TIME_MS})
    taken = {
        name: case.turns(name, contestants(name, case, cycle_times_ms, ranks), rounds, starts)
        for name, case in cases.items()
    }
    found = result(taken, cases)
    print(json.dumps({name: found[name] for name in ("images_per_s_of_a_rank", "of_fastest", "ratios")}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
