"""Is our training step as fast as a bare Horovod loop and as torch DistributedDataParallel, on 2 ranks of one CPU?

Each contestant computes the same network on the same number of images a rank, one thread a rank. They take turns;
a ratio is the median over rounds of (peer's seconds / our seconds) of the same round: higher is better for us.
In Keras (ResNet-20, batch 32 a rank) the same model.fit is run without Horovod, with a bare allreduce in its step, and
with our adapter; keras_vs_single leaves out what the bare allreduce adds: single / (ours − (bare − single)).

    python benchmarks/step_overhead.py --json benchmarks/results/step_overhead.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from provenance import cpu_name as cpu_name
from provenance import provenance as provenance
from tqdm import tqdm

BIN = Path(sys.executable).parent
LOOPS = str(Path(__file__).with_name("step_loops.py"))
RANKS = 2
LAUNCHER = [sys.executable, "-m", "hvd_imagenet", "launch", "-np", str(RANKS), "--", sys.executable]
LAUNCH = [*LAUNCHER, LOOPS]
KERAS_LOOPS = str(Path(__file__).with_name("keras_loops.py"))
KERAS_STEPS = 20
# As Horovod's documentation starts it over MPI.
UPSTREAM = [str(BIN / "mpirun"), "--allow-run-as-root", "-np", str(RANKS), "--bind-to", "none", "--map-by", "slot"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(RANKS), "--standalone", LOOPS]
CHANNELS_LAST = "layout=channels_last"


def contestants(model: str) -> dict[str, tuple[list[str], str, list[str]]]:
    """Launcher, loop and options of each."""
    chosen = {
        "ours": (LAUNCH, "ours", []),
        "ours_channels_last": (LAUNCH, "ours", [CHANNELS_LAST]),
        "bare_horovod": (LAUNCH, "bare_horovod", []),
        "ddp": (TORCHRUN, "ddp", []),
        "ddp_channels_last": (TORCHRUN, "ddp", [CHANNELS_LAST]),
    }
    if model == "resnet50":
        chosen["bare_horovod_as_started_upstream"] = ([*UPSTREAM, sys.executable, LOOPS], "bare_horovod", [])
    return chosen


def seconds_of(launcher: list[str], words: list[str]) -> float:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *words], env=environment, capture_output=True, text=True, timeout=1200)
    for line in done.stdout.splitlines():
        if line.startswith('{"seconds"'):
            return float(json.loads(line)["seconds"])
    raise RuntimeError(f"{' '.join(launcher + words)}\n{done.stdout}\n{done.stderr}")


def measure(model: str, image_size: int, images: int, iterations: int, rounds: int) -> dict[str, list[float]]:
    chosen = contestants(model)
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    turns = [name for round_number in range(rounds) for name in list(chosen)[:: 1 if round_number % 2 else -1]]
    for name in tqdm(turns, desc=model, disable=not sys.stderr.isatty()):
        launcher, loop, options = chosen[name]
        words = [loop, model, str(image_size), str(images), str(iterations), *options]
        seconds[name].append(seconds_of(launcher, words))
        print(f"{model} {name}: {seconds[name][-1]:.3f} s an iteration", flush=True)
    return seconds


def measure_keras(rounds: int) -> dict[str, list[float]]:
    """Turns within one job, so that both cores are as busy for each."""
    words = [*LAUNCHER, KERAS_LOOPS, str(KERAS_STEPS), str(rounds)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=3600)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}\n{done.stdout}\n{done.stderr}")
    seconds: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    for name, turns in seconds.items():
        print(f"keras {name}: {statistics.median(turns):.4f} s a step", flush=True)
    return seconds


def keras_ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """The adapter beyond the allreduce, and all of it."""
    turns = list(zip(seconds["single"], seconds["bare_allreduce"], seconds["ours"], strict=True))
    return {
        "keras_vs_single": round(statistics.median(one / (one + ours - bare) for one, bare, ours in turns), 3),
        "keras_vs_single_with_allreduce": round(statistics.median(one / ours for one, _, ours in turns), 3),
        "keras_vs_bare_allreduce": round(statistics.median(bare / ours for _, bare, ours in turns), 3),
    }


def ratio(seconds: dict[str, list[float]], peers: list[str], ours: list[str]) -> float:
    """Best peer over best of ours, round by round."""
    rounds = zip(*(seconds[name] for name in peers + ours), strict=True)
    return round(statistics.median(min(row[: len(peers)]) / min(row[len(peers) :]) for row in rounds), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keras-rounds", type=int, default=15, help="they are short")
    parser.add_argument("--only", choices=("torch", "keras"), help="keep the other's figures of an earlier --json FILE")
    arguments = parser.parse_args()
    parts = {"torch": lambda: torch_part(arguments.rounds), "keras": lambda: keras_part(arguments.keras_rounds)}
    results = {name: part() for name, part in parts.items() if arguments.only in (None, name)}
    ratios: dict[str, float] = {}
    seconds: dict[str, dict[str, list[float]]] = {}
    for part_ratios, part_seconds in results.values():
        ratios |= part_ratios
        seconds |= part_seconds
    print(json.dumps(ratios, indent=1))
    if arguments.json:
        write(arguments.json, ratios, seconds, keep=arguments.only is not None)


def torch_part(rounds: int) -> tuple[dict[str, float], dict[str, dict[str, list[float]]]]:
    """Ratios and seconds of the PyTorch loops."""
    resnet50 = measure("resnet50", image_size=224, images=8, iterations=3, rounds=rounds)
    resnet20 = measure("resnet20", image_size=32, images=64, iterations=15, rounds=rounds)
    both = ["ours", "ours_channels_last"]
    ddp = ["ddp", "ddp_channels_last"]
    ratios = {
        "resnet50_vs_bare_horovod": ratio(resnet50, ["bare_horovod"], ["ours"]),
        "resnet50_vs_bare_horovod_as_started_upstream": ratio(resnet50, ["bare_horovod_as_started_upstream"], ["ours"]),
        "resnet50_vs_ddp": ratio(resnet50, ddp, both),
        "resnet50_contiguous_vs_ddp_contiguous": ratio(resnet50, ["ddp"], ["ours"]),
        "resnet20_vs_bare_horovod": ratio(resnet20, ["bare_horovod"], ["ours"]),
        "resnet20_vs_ddp": ratio(resnet20, ddp, both),
    }
    return ratios, {"resnet50": resnet50, "resnet20": resnet20}


def keras_part(rounds: int) -> tuple[dict[str, float], dict[str, dict[str, list[float]]]]:
    """Ratios and seconds of model.fit."""
    seconds = measure_keras(rounds)
    return keras_ratios(seconds), {"keras_resnet20": seconds}


def write(path: Path, ratios: dict[str, float], seconds: dict[str, dict[str, list[float]]], keep: bool) -> None:
    """Writes the results; with the provenance of each part, since they may be of different days."""
    old = json.loads(path.read_text()) if keep and path.exists() else {}
    here = provenance(f"{RANKS} ranks of 1 thread")
    result = {
        "ratios": {**old.get("ratios", {}), **ratios},
        "seconds_per_iteration": {**old.get("seconds_per_iteration", {}), **seconds},
        "provenance": {**old.get("provenance", {}), **dict.fromkeys(seconds, here)},
    }
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
