"""How long from the command to the end of the first iteration, on 2 processes of this machine?

The same small loop on Horovod is started by `launch` over MPI and over Gloo (launch_horovodrun), by mpirun and by
horovodrun, which is our patched one and so imports no framework; the same loop on DistributedDataParallel by torchrun;
and `train` on the scanned digits by `launch`. They take turns, every second round in reverse; a ratio is the median
over rounds of (peer's seconds / those with `launch`) of the same round.

    python benchmarks/startup.py --json benchmarks/results/startup.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from launch_overhead import ROOT_MAY_RUN
from provenance import provenance
from tqdm import tqdm
from turns import compared, spread

BIN = Path(sys.executable).parent
LOOPS = [sys.executable, str(Path(__file__).with_name("startup_loops.py"))]
LAUNCHER = [sys.executable, "-m", "hvd_imagenet", "launch", "-np"]
# In the order of their turns: `launch` stands beside each of its peers.
TURNS = ("horovodrun", "launch_horovodrun", "mpirun", "launch", "torchrun", "launch_train")
QUICK = ("mpirun", "launch")
# Peer of which of ours.
PEERS = {
    "vs_mpirun": ("mpirun", "launch"),
    "vs_horovodrun": ("horovodrun", "launch"),
    "vs_torchrun": ("torchrun", "launch"),
    "gloo_vs_horovodrun": ("horovodrun", "launch_horovodrun"),
}


def commands(processes: int) -> dict[str, list[str]]:
    count, launch = str(processes), [*LAUNCHER, str(processes)]
    return {
        "launch": [*launch, "--", *LOOPS, "bare"],
        "mpirun": [str(BIN / "mpirun"), "-np", count, "--map-by", ":OVERSUBSCRIBE", *LOOPS, "bare"],
        "launch_horovodrun": [*launch, "--launcher", "horovodrun", "--", *LOOPS, "bare"],
        "horovodrun": [str(BIN / "horovodrun"), "-np", count, "--gloo", *LOOPS, "bare"],
        "torchrun": [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", count, "--standalone", *LOOPS[1:], "ddp",
        ],
        "launch_train": [*launch, "--", *LOOPS, "train", "--recipe", "digits", "--max-iterations", "1"],
    }  # fmt: skip


def seconds(command: list[str], data: Path) -> float:
    """From the start of the command to what rank 0 says at the end of the first iteration."""
    with tempfile.TemporaryDirectory() as out:
        options = ["--data", str(data), "--out", f"{out}/run"] if "train" in command else []
        begin = time.time()
        done = subprocess.run(
            [*command, *options], env={**os.environ, **ROOT_MAY_RUN, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    for line in done.stdout.splitlines():
        _, found, end = line.partition("first iteration ")  # horovodrun puts the rank before it
        if found:
            return float(end) - begin
    raise RuntimeError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


def make_digits(folder: Path) -> Path:
    words = ["make-dataset", str(folder / "digits"), "--source", "digits"]
    subprocess.run([sys.executable, "-m", "hvd_imagenet", *words], check=True, stdout=subprocess.DEVNULL)
    return folder / "digits"


def summary(rounds: list[dict[str, float]]) -> dict[str, object]:
    """Medians and quartiles, and ratios within rounds."""
    ratios = {
        name: spread(compared(rounds, [peer], ours), 3)
        for name, (peer, ours) in PEERS.items()
        if {peer, ours} <= set(rounds[0])
    }
    seconds = {name: spread([taken[name] for taken in rounds], 3) for name in rounds[0]}
    return {
        "ratios": {name: each["median"] for name, each in ratios.items()},
        "quartiles": {name: each["quartiles"] for name, each in ratios.items()},
        "seconds": {name: each["median"] for name, each in seconds.items()},
        "seconds_quartiles": {name: each["quartiles"] for name, each in seconds.items()},
        "rounds": [{name: round(each, 3) for name, each in taken.items()} for taken in rounds],
    }


def measure(data: Path, names: Sequence[str], processes: int, rounds: int) -> list[dict[str, float]]:
    every, taken = commands(processes), []
    for number in tqdm(range(rounds), disable=not sys.stderr.isatty()):
        taken.append({name: seconds(every[name], data) for name in names[:: -1 if number % 2 else 1]})
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help=f"a process, one round of {' and '.join(QUICK)}: seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        processes = 1 if arguments.quick else 2
        if arguments.quick:
            rounds = measure(Path(folder), QUICK, processes, rounds=1)
        else:
            data = make_digits(Path(folder))
            measure(data, TURNS, processes, rounds=1)  # files into the page cache
            rounds = measure(data, TURNS, processes, arguments.rounds)
    found = {**provenance(f"{processes} processes of 1 thread"), **summary(rounds)}
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
