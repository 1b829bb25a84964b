"""How fast is an allreduce: Horovod over MPI and over Gloo, fused and not, torch on gloo, and MPI itself as the limit?

Tensors of 4 bytes to 256 MB, and the gradients of ResNet-50 (161 tensors, 102 MB) as a step has them, on 2, 4 and 8
ranks of this machine. Contestants are started anew in every round and take turns; a ratio is the median over rounds of
(peer's seconds / ours) in the same round. Latency is the time of 4 bytes, bus bandwidth bytes / seconds · 2(p − 1)/p.
The sweeps are of the cycle time, with what Horovod's thread takes from a process that computes, and of the fusion
threshold.

    python benchmarks/allreduce.py --json benchmarks/results/allreduce.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from provenance import provenance
from tqdm import tqdm

RANKS_PROGRAM = str(Path(__file__).with_name("allreduce_ranks.py"))
LAUNCH = [sys.executable, "-m", "hvd_imagenet", "launch"]
SIZES = [4, 1 << 10, 1 << 14, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28]
CYCLE_TIMES_MS = (0.5, 1, 2.5, 5, 10, 20, 50)
FUSION_THRESHOLDS_MB = (0, 1, 4, 16, 64, 128)
# Horovod's cycle time where latency is asked for; what `launch` sets on CPUs is longer.
FAST_CYCLE = ["--cycle-time-ms", "1"]
# Name: how it is launched, library.
CONTESTANTS: dict[str, tuple[list[str], str]] = {
    "horovod_mpi": ([], "horovod"),
    "horovod_mpi_cycle_1ms": (FAST_CYCLE, "horovod"),
    "horovod_mpi_unfused": (["--fusion-threshold-mb", "0"], "horovod"),
    "horovod_gloo": (["--launcher", "horovodrun"], "horovod"),
    "horovod_gloo_cycle_1ms": (["--launcher", "horovodrun", *FAST_CYCLE], "horovod"),
    "mpi4py": ([], "mpi4py"),
    "torch_gloo": ([], "torch_gloo"),
}
QUICK = ("horovod_mpi_cycle_1ms", "mpi4py", "torch_gloo")
Found = dict[str, Any]


def resnet50_gradients() -> list[int]:
    """Bytes of every gradient, in the order in which backprop makes them."""
    from hvd_imagenet.torch.models import resnet50

    return [4 * parameter.numel() for parameter in reversed(list(resnet50().parameters()))]


def measure(name: str, ranks: int, wanted: Found, options: list[str] | None = None) -> Found:
    """Starts a contestant and returns what rank 0 says."""
    chosen, library = CONTESTANTS[name]
    words = [RANKS_PROGRAM, library, json.dumps(wanted)]
    command = [*LAUNCH, "-np", str(ranks), *chosen, *(options or []), "--", sys.executable, *words]
    if library == "torch_gloo":
        torchrun = ["torch.distributed.run", "--nproc-per-node", str(ranks), "--standalone"]
        command = [sys.executable, "-m", *torchrun, *words]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        if line.startswith('{"seconds"'):
            return dict(json.loads(line))
    raise RuntimeError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


def rounds_of(names: list[str], ranks: int, wanted: Found, rounds: int) -> dict[str, list[Found]]:
    """Seconds of every contestant in every round."""
    taken: dict[str, list[Found]] = {name: [] for name in names}
    turns = [name for number in range(rounds) for name in names[:: 1 if number % 2 else -1]]
    for name in tqdm(turns, desc=f"{ranks} ranks", disable=not sys.stderr.isatty()):
        taken[name].append(measure(name, ranks, wanted)["seconds"])
    return taken


def medians(taken: dict[str, list[Found]]) -> dict[str, dict[str, float]]:
    return {
        name: {what: round(statistics.median(each[what] for each in rounds), 6) for what in rounds[0]}
        for name, rounds in taken.items()
    }


def bus_bandwidths(seconds: dict[str, dict[str, float]], ranks: int, set_bytes: int) -> dict[str, dict[str, float]]:
    """GB/s, of tensors of a MB and more."""
    factor = 2 * (ranks - 1) / ranks * 1e-9
    sizes = {what: int(what) if what.isdigit() else set_bytes for times in seconds.values() for what in times}
    return {
        name: {what: round(factor * sizes[what] / s, 3) for what, s in times.items() if sizes[what] >= 1 << 20}
        for name, times in seconds.items()
    }


def ratio(taken: dict[str, list[Found]], ours: tuple[str, str], peers: list[tuple[str, str]]) -> float:
    """The best peer over ours, round by round; each is a contestant and what it reduces."""
    rounds = range(len(taken[ours[0]]))
    each = [min(taken[peer][n][what] for peer, what in peers) / taken[ours[0]][n][ours[1]] for n in rounds]
    return round(statistics.median(each), 3)


def ratios_of(taken: dict[str, list[Found]], ranks: int) -> dict[str, float]:
    """Ours is Horovod as `launch` starts it, if it is there; the gradients of a step against MPI's one buffer."""
    ours = "horovod_mpi" if "horovod_mpi" in taken else QUICK[0]
    mpi = [("mpi4py", "set_in_one_buffer"), ("mpi4py", "set")]
    gloo = [("torch_gloo", "set_in_one_buffer"), ("torch_gloo", "set")]
    found = {
        f"resnet50_vs_mpi4py_{ranks}_ranks": ratio(taken, (ours, "set"), mpi),
        f"resnet50_vs_torch_gloo_{ranks}_ranks": ratio(taken, (ours, "set"), gloo),
    }
    if "horovod_mpi_unfused" in taken:
        unfused = [("horovod_mpi_unfused", "set")]
        found[f"resnet50_fused_vs_unfused_{ranks}_ranks"] = ratio(taken, (ours, "set"), unfused)
    if "horovod_gloo" in taken:
        found[f"resnet50_gloo_vs_torch_gloo_{ranks}_ranks"] = ratio(taken, ("horovod_gloo", "set"), gloo)
    return found


def sweep(option: str, values: tuple[float, ...], ranks: int, wanted: Found, rounds: int) -> dict[str, Found]:
    """Horovod over MPI with one option at several values, which take turns; medians."""
    taken: dict[str, list[Found]] = {f"{value:g}": [] for value in values}
    for value in tqdm(list(taken) * rounds, desc=option, disable=not sys.stderr.isatty()):
        one = measure("horovod_mpi", ranks, wanted, [option, value])
        taken[value].append({**one.pop("seconds"), **one})
    return dict(medians(taken))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8], metavar="P")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="2 ranks, a few small tensors and one round: seconds")
    arguments = parser.parse_args()
    if arguments.quick:
        ranks, rounds, names, sizes, gradients = [2], 1, list(QUICK), [4, 1 << 20], [4096, 1 << 20]
        cycle_times_ms, thresholds_mb = CYCLE_TIMES_MS[1:2], ()
    else:
        ranks, rounds, names, sizes, gradients = (
            arguments.ranks, arguments.rounds, list(CONTESTANTS), SIZES, resnet50_gradients()
        )  # fmt: skip
        cycle_times_ms, thresholds_mb = CYCLE_TIMES_MS, FUSION_THRESHOLDS_MB
    wanted = {"bytes": sizes, "set": gradients, "times": 1 if arguments.quick else 5}
    found: Found = {**provenance(f"{', '.join(map(str, ranks))} ranks of 1 thread"), "ratios": {}, "rounds": rounds}
    found |= {"seconds": {}, "bus_bandwidth_gb_s": {}}
    for number in ranks:
        taken = rounds_of(names, number, wanted, rounds)
        found["ratios"] |= ratios_of(taken, number)
        found["seconds"][str(number)] = seconds = medians(taken)
        found["bus_bandwidth_gb_s"][str(number)] = bus_bandwidths(seconds, number, sum(gradients))
    of_sweep = {"bytes": [4], "set": gradients, "times": wanted["times"], "idle_s": 0.2 if arguments.quick else 3}
    found["cycle_time_ms"] = sweep("--cycle-time-ms", cycle_times_ms, ranks[0], of_sweep, rounds)
    found["fusion_threshold_mb"] = sweep("--fusion-threshold-mb", thresholds_mb, ranks[0], of_sweep, rounds)
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
