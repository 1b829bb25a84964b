"""How much longer does a job of two processes take from command to prompt when `launch` starts and watches it?

The processes do nothing. Four ways of starting them take turns, each round in another order: mpirun and horovodrun
alone, and both under `hvd-imagenet launch`, which puts a guard beside each process.

    python benchmarks/launch_overhead.py --json benchmarks/results/launch_overhead.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from provenance import provenance
from tqdm import tqdm

BIN = Path(sys.executable).parent
LAUNCH = [str(BIN / "hvd-imagenet"), "launch", "-np", "2"]
COMMANDS = {
    "mpirun": [str(BIN / "mpirun"), "-np", "2", "--map-by", ":OVERSUBSCRIBE", "true"],
    "launch_mpirun": [*LAUNCH, "--launcher", "mpirun", "--", "true"],
    "horovodrun": [str(BIN / "horovodrun"), "-np", "2", "--gloo", "true"],
    "launch_horovodrun": [*LAUNCH, "--launcher", "horovodrun", "--", "true"],
}
ROOT_MAY_RUN = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def seconds(name: str) -> float:
    """Wall time of one start, from its beginning to its end."""
    begin_s = time.perf_counter()
    subprocess.run(
        COMMANDS[name], env={**os.environ, **ROOT_MAY_RUN}, stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    return time.perf_counter() - begin_s


def summary(rounds: list[dict[str, float]]) -> dict[str, object]:
    """Medians of the times, and of the difference that `launch` makes within a round."""
    medians = {name: round(statistics.median(taken[name] for taken in rounds), 3) for name in COMMANDS}
    overheads = {}
    for launcher in ("mpirun", "horovodrun"):
        differences = [taken[f"launch_{launcher}"] - taken[launcher] for taken in rounds]
        quartiles = [round(each, 3) for each in statistics.quantiles(differences, n=4, method="inclusive")]
        overheads[launcher] = {"median": quartiles[1], "quartiles": [quartiles[0], quartiles[2]]}
    ratios = {f"vs_{name}": round(medians[name] / medians[f"launch_{name}"], 3) for name in ("mpirun", "horovodrun")}
    return {"ratios": ratios, "overhead_s": overheads, "seconds": medians}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="two rounds, into a cold page cache: seconds")
    arguments = parser.parse_args()
    names = list(COMMANDS)
    for name in () if arguments.quick else names:
        seconds(name)  # files into the page cache
    rounds = []
    for number in tqdm(range(2 if arguments.quick else arguments.rounds), disable=not sys.stderr.isatty()):
        turn = number % len(names)
        rounds.append({name: seconds(name) for name in names[turn:] + names[:turn]})
    found = {**provenance("2 processes"), **summary(rounds), "rounds": rounds}
    print(json.dumps({**found, "rounds": len(rounds)}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
