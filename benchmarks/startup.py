"""How long from the command to the end of the first iteration, on 2 processes of this machine?

The same small loop on Horovod is started by `launch` over MPI and over Gloo, by mpirun and by horovodrun; the same loop
on DistributedDataParallel by torchrun; and `train` on the scanned digits by `launch`. They take turns, each round in
another order; a ratio is the median over rounds of (peer's seconds / seconds with `launch`) of the same round.

    python benchmarks/startup.py --json benchmarks/results/startup.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from launch_overhead import ROOT_MAY_RUN
from provenance import provenance
from tqdm import tqdm

BIN = Path(sys.executable).parent
LOOPS = [sys.executable, str(Path(__file__).with_name("startup_loops.py"))]
LAUNCH = [sys.executable, "-m", "hvd_imagenet", "launch", "-np", "2"]
COMMANDS = {
    "launch": [*LAUNCH, "--", *LOOPS, "bare"],
    "mpirun": [str(BIN / "mpirun"), "-np", "2", "--map-by", ":OVERSUBSCRIBE", *LOOPS, "bare"],
    "launch_horovodrun": [*LAUNCH, "--launcher", "horovodrun", "--", *LOOPS, "bare"],
    "horovodrun": [str(BIN / "horovodrun"), "-np", "2", "--gloo", *LOOPS, "bare"],
    "torchrun": [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", *LOOPS[1:], "ddp",
    ],
    "launch_train": [*LAUNCH, "--", *LOOPS, "train", "--recipe", "digits", "--max-iterations", "1"],
}  # fmt: skip
QUICK = ("launch", "torchrun")
# Peer of which of ours.
PEERS = {"mpirun": "launch", "horovodrun": "launch", "torchrun": "launch"}


def seconds(name: str, data: Path) -> float:
    """From the start of the command to what rank 0 says at the end of the first iteration."""
    with tempfile.TemporaryDirectory() as out:
        options = ["--data", str(data), "--out", f"{out}/run"] if name == "launch_train" else []
        begin = time.time()
        done = subprocess.run(
            [*COMMANDS[name], *options], env={**os.environ, **ROOT_MAY_RUN, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    for line in done.stdout.splitlines():
        _, found, end = line.partition("first iteration ")  # horovodrun puts the rank before it
        if found:
            return float(end) - begin
    raise RuntimeError(f"{' '.join(COMMANDS[name])}\n{done.stdout}\n{done.stderr}")


def make_digits(folder: Path) -> Path:
    words = ["make-dataset", str(folder / "digits"), "--source", "digits"]
    subprocess.run([sys.executable, "-m", "hvd_imagenet", *words], check=True, stdout=subprocess.DEVNULL)
    return folder / "digits"


def summary(rounds: list[dict[str, float]]) -> dict[str, object]:
    """Medians, and ratios within rounds."""
    ratios = {
        f"vs_{peer}": round(statistics.median(taken[peer] / taken[ours] for taken in rounds), 3)
        for peer, ours in PEERS.items()
        if peer in rounds[0]
    }
    medians = {name: round(statistics.median(taken[name] for taken in rounds), 3) for name in rounds[0]}
    return {"ratios": ratios, "seconds": medians, "rounds": len(rounds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help=f"one round of {' and '.join(QUICK)}: seconds")
    arguments = parser.parse_args()
    names = list(QUICK if arguments.quick else COMMANDS)
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) if arguments.quick else make_digits(Path(folder))
        for name in () if arguments.quick else names:
            seconds(name, data)  # files into the page cache
        for number in tqdm(range(1 if arguments.quick else arguments.rounds), disable=not sys.stderr.isatty()):
            turn = number % len(names)
            rounds.append({name: seconds(name, data) for name in names[turn:] + names[:turn]})
    found = {**provenance("2 processes of 1 thread"), **summary(rounds)}
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
