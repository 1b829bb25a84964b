"""How often should Horovod's thread look for tensors where ranks compute on CPUs? `launch` sets what follows from this.

Rarely, and a step waits for the next look; often, and the thread takes time from the core that computes. So whole
steps decide, of `train` and of model.fit with our optimizer, on 2 ranks of one thread: over MPI, where each is bound to
a core; over Gloo, where none is (_gloo); and over MPI with two ranks for each core (_crowded). Jobs of each cycle time
take turns (turns.py). of_fastest is the speed at a cycle time / that at the fastest one, by medians. A ratio,
resnet20_vs_best_cycle, is the speed at the cycle time that `launch` sets / that at the fastest one, the median over
rounds.

    python benchmarks/cycle_time.py --json benchmarks/results/cycle_time.json
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from provenance import provenance
from step_contestants import (
    CHANNELS_LAST,
    KERAS_RESNET20,
    RANKS,
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

from hvd_imagenet.launcher.tuning import BOUND_CYCLE_TIME_MS, CPU_CYCLE_TIME_MS

CYCLE_TIMES_MS = (1, 2, 5, 10, 20)


class Job(NamedTuple):
    """What is started at each cycle time.

    Attributes:
        case: of a rank.
        launch_sets_ms: the cycle time, unless asked for another.
        options: of `launch`.
        ranks: of the job.
        loops: the framework's.
    """

    case: Case
    launch_sets_ms: int = BOUND_CYCLE_TIME_MS
    options: tuple[str, ...] = ()
    ranks: int = RANKS
    loops: str = "torch"


JOBS = {
    "resnet20": Job(RESNET20),
    "keras_resnet20": Job(KERAS_RESNET20, loops="keras"),
    # Five jobs stand in memory at once; with half the images they need half of it, 8 GB.
    "resnet50": Job(RESNET50._replace(images=4)),
    "resnet20_gloo": Job(RESNET20, CPU_CYCLE_TIME_MS, ("--launcher", "horovodrun")),
    "resnet20_crowded": Job(RESNET20._replace(images=32), CPU_CYCLE_TIME_MS, ranks=2 * RANKS),
}
QUICK = {"resnet8": Job(RESNET8, ranks=1)}


def contestants(job: Job, cycle_times_ms: Sequence[int]) -> dict[str, Contestant]:
    """A job for each cycle time, by its milliseconds."""
    found = {}
    for cycle_ms in cycle_times_ms:
        options = [*job.options, "--cycle-time-ms", str(cycle_ms)]
        if job.loops == "keras":
            found[str(cycle_ms)] = keras_contestants(job.case, options, job.ranks)["ours"]
        else:
            found[str(cycle_ms)] = torch_ours(job.case, CHANNELS_LAST, options=options, ranks=job.ranks)
    return found


def of_fastest(rounds: Mapping[str, Sequence[Seconds]]) -> dict[str, dict[str, float]]:
    """Of each cycle time: the share of the fastest's speed in every job."""
    medians = {
        name: {each: found["median"] for each, found in spreads({name: rounds[name]}).items()} for name in rounds
    }
    cycle_times = next(iter(medians.values()))
    return {
        cycle_ms: {name: round(min(of.values()) / of[cycle_ms], 3) for name, of in medians.items()}
        for cycle_ms in cycle_times
    }


def result(rounds: Mapping[str, Sequence[Seconds]], jobs: Mapping[str, Job]) -> dict[str, Any]:
    ratios = {}
    for name, taken in rounds.items():
        medians = {cycle_ms: found["median"] for cycle_ms, found in spreads({name: taken}).items()}
        best = min(medians, key=medians.__getitem__)
        ratios[f"{name}_vs_best_cycle"] = compared(taken, [best], str(jobs[name].launch_sets_ms))
    return {
        **provenance(machine_words()),
        "launch_sets_ms": {name: jobs[name].launch_sets_ms for name in rounds},
        "ratios": {name: spread(each, 3)["median"] for name, each in ratios.items()},
        "quartiles": {name: spread(each, 3)["quartiles"] for name, each in ratios.items()},
        "of_fastest": of_fastest(rounds),
        "images_per_s_of_a_rank": {
            name: spreads({name: taken}, jobs[name].case.images) for name, taken in rounds.items()
        },
        "rounds": dict(rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="one rank, ResNet-8, two cycle times, one round: seconds")
    arguments = parser.parse_args()
    jobs, cycle_times_ms, rounds, starts = JOBS, CYCLE_TIMES_MS, arguments.rounds, 2
    if arguments.quick:
        jobs, cycle_times_ms, rounds, starts = QUICK, (1, BOUND_CYCLE_TIME_MS), 1, 1
    taken = {name: job.case.turns(name, contestants(job, cycle_times_ms), rounds, starts) for name, job in jobs.items()}
    found = result(taken, jobs)
    print(json.dumps({name: found[name] for name in ("images_per_s_of_a_rank", "of_fastest", "ratios")}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
