"""How fast is an allreduce: Horovod over MPI and over Gloo, fused and not, torch on gloo, and MPI itself as the limit?

Tensors of 4 bytes to 256 MB, and the gradients of ResNet-50 (161 tensors, 102 MB) as a step has them, on 2, 4 and 8
ranks of this machine. Contestants of a group take turns and are stopped in between (turns.py); a ratio is the median
over rounds of (peer's seconds / ours) within a round. Latency is the time of 4 bytes, bus bandwidth bytes / seconds ·
2(p − 1)/p. What Horovod reduces waits for its next cycle, in the mean half of one.

- resnet50_vs_mpi4py_P_ranks: the gradients by Horovod as `launch` starts it, against the faster of mpi4py's own
  Allreduce of the tensors and of one buffer, started alike; resnet50_vs_mpi4py_by_mpirun_P_ranks: against mpi4py
  started by mpirun alone, without `launch`'s settings of memory; resnet50_untuned_vs_mpi4py_P_ranks: Horovod's own
  cycle and fusion; resnet50_best_cycle_vs_mpi4py_2_ranks: at the cycle of the sweep with the least median;
- resnet50_vs_torch_gloo_P_ranks: against torch.distributed on gloo; resnet50_gloo_vs_torch_gloo_P_ranks: Horovod over
  Gloo too; resnet50_fused_vs_unfused_P_ranks, resnet50_gloo_fused_vs_unfused_P_ranks: against a threshold of 0.

The sweeps are of the cycle time, with what Horovod's thread takes from a process that computes, and of the fusion
threshold. What a whole step makes of the cycle time is in cycle_time.py.

    python benchmarks/allreduce.py --json benchmarks/results/allreduce.json
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from provenance import provenance
from turns import Answers, Contestant, compared, spread, take_turns

RANKS_PROGRAM = str(Path(__file__).with_name("allreduce_ranks.py"))
# Ranks stand still while it is not their turn.
LAUNCH = [sys.executable, "-m", "hvd_imagenet", "launch", "--stall-timeout", "0"]
MPIRUN = [str(Path(sys.executable).with_name("mpirun")), "--allow-run-as-root", "--mca", "mpi_yield_when_idle", "1"]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
SIZES = [4, 1 << 10, 1 << 14, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28]
CYCLE_TIMES_MS = (0.5, 1, 2.5, 5, 10, 20, 50)
FUSION_THRESHOLDS_MB = (0, 1, 4, 16, 64, 128)
# How often the largest and the smallest are measured in a turn, by ranks.
TIMES = {2: (3, 8), 4: (2, 8), 8: (1, 4)}
ONCE = (1, 1)
# Horovod's own, where `launch` sets others on CPUs.
UNTUNED = ["--cycle-time-ms", "1", "--fusion-threshold-mb", "128"]
UNFUSED, GLOO = ["--fusion-threshold-mb", "0"], ["--launcher", "horovodrun"]
# Name: how it is launched, library.
CONTESTANTS: dict[str, tuple[list[str], str]] = {
    "horovod_mpi": ([], "horovod"),
    "horovod_mpi_untuned": (UNTUNED, "horovod"),
    "horovod_mpi_unfused": (UNFUSED, "horovod"),
    "horovod_gloo": (GLOO, "horovod"),
    "horovod_gloo_untuned": ([*GLOO, *UNTUNED], "horovod"),
    "horovod_gloo_unfused": ([*GLOO, *UNFUSED], "horovod"),
    "mpi4py": ([], "mpi4py"),
    "mpi4py_by_mpirun": ([], "mpi4py"),
    "torch_gloo": ([], "torch_gloo"),
}
# Who takes turns, neighbours beside each other; not all of them at once, for four on 8 ranks take 14 GB.
GROUPS = {
    "mpi": ("torch_gloo", "horovod_mpi", "mpi4py", "horovod_mpi_untuned"),
    "unfused": ("horovod_mpi_unfused", "horovod_mpi", "mpi4py_by_mpirun"),
    "gloo": ("horovod_gloo_unfused", "horovod_gloo", "torch_gloo", "horovod_gloo_untuned"),
}
QUICK = ("horovod_mpi_untuned", "mpi4py")
# Name: group, ours, peer.
RATIOS = {
    "vs_mpi4py": ("mpi", "horovod_mpi", "mpi4py"),
    "vs_mpi4py_by_mpirun": ("unfused", "horovod_mpi", "mpi4py_by_mpirun"),
    "untuned_vs_mpi4py": ("mpi", "horovod_mpi_untuned", "mpi4py"),
    "vs_torch_gloo": ("mpi", "horovod_mpi", "torch_gloo"),
    "fused_vs_unfused": ("unfused", "horovod_mpi", "horovod_mpi_unfused"),
    "gloo_vs_torch_gloo": ("gloo", "horovod_gloo", "torch_gloo"),
    "gloo_fused_vs_unfused": ("gloo", "horovod_gloo", "horovod_gloo_unfused"),
}
SET, BUFFER = "set", "set_in_one_buffer"
Found = dict[str, Any]
# What rank 0 of each contestant of a group found in a round.
Rounds = Sequence[Mapping[str, Found]]


def resnet50_gradients() -> list[int]:
    """Bytes of every gradient, in the order in which backprop makes them."""
    from hvd_imagenet.torch.models import resnet50

    return [4 * parameter.numel() for parameter in reversed(list(resnet50().parameters()))]


def contestant(name: str, ranks: int, options: Sequence[str] = ()) -> Contestant:
    chosen, library = CONTESTANTS[name]
    words = [RANKS_PROGRAM, library]
    command = [*LAUNCH, "-np", str(ranks), *chosen, *options, "--", sys.executable, *words]
    if library == "torch_gloo":
        torchrun = ["torch.distributed.run", "--nproc-per-node", str(ranks), "--standalone"]
        command = [sys.executable, "-m", *torchrun, *words]
    if name == "mpi4py_by_mpirun":
        placement = ["--bind-to", "core"] if ranks <= len(os.sched_getaffinity(0)) else ["--oversubscribe"]
        command = [*MPIRUN, "-np", str(ranks), *placement, sys.executable, *words]
    return Contestant([command], ranks, ENVIRONMENT)


def measured(label: str, jobs: Mapping[str, Contestant], wanted: Found, rounds: int) -> Rounds:
    """What rank 0 says, in every round."""
    first = {**wanted, "times": ONCE, "idle_s": 0}
    return [
        {name: rounded(answers) for name, answers in taken.items()}
        for taken in take_turns(label, jobs, wanted, first, rounds)
    ]


def rounded(answers: Answers) -> Found:
    found = {**answers[0].pop("seconds"), **answers[0]}
    return {what: round(value, 6) for what, value in found.items()}


def spreads(taken: Mapping[str, Rounds]) -> dict[str, dict[str, dict[str, Any]]]:
    """Median and quartiles over all groups' rounds of all that each contestant found."""
    values: dict[str, dict[str, list[float]]] = {}
    for rounds in taken.values():
        for each in rounds:
            for name, found in each.items():
                for what, value in found.items():
                    values.setdefault(name, {}).setdefault(what, []).append(value)
    return {name: {what: spread(each, 6) for what, each in of.items()} for name, of in values.items()}


def medians(found: Mapping[str, Mapping[str, Mapping[str, Any]]], which: str = "median") -> dict[str, Any]:
    return {name: {what: each[which] for what, each in of.items()} for name, of in found.items()}


def bus_bandwidths(seconds: Mapping[str, Mapping[str, float]], ranks: int, set_bytes: int) -> dict[str, Found]:
    """GB/s, of tensors of a MB and more."""
    factor = 2 * (ranks - 1) / ranks * 1e-9
    sizes = {str(size): size for size in SIZES if size >= 1 << 20} | {SET: set_bytes, BUFFER: set_bytes}
    return {
        name: {what: round(factor * sizes[what] / s, 3) for what, s in times.items() if what in sizes}
        for name, times in seconds.items()
    }


def ratio(rounds: Rounds, ours: str, peer: str) -> list[float]:
    """The peer's seconds over ours, round by round; a peer without fusion of its own may have one buffer."""
    whats = (SET,) if peer.endswith("unfused") else (SET, BUFFER)
    seconds = [{**{what: taken[peer][what] for what in whats}, "ours": taken[ours][SET]} for taken in rounds]
    return compared(seconds, whats, "ours")


def ratios_of(taken: Mapping[str, Rounds], ranks: int, gradients: str) -> dict[str, list[float]]:
    """All rounds of each ratio, of those whose contestants were there; gradients: whose the set is."""
    return {
        f"{gradients}_{name}_{ranks}_ranks": ratio(taken[group], ours, peer)
        for name, (group, ours, peer) in RATIOS.items()
        if group in taken and {ours, peer} <= set(taken[group][0])
    }


def sweep(option: str, values: Sequence[float], wanted: Found, rounds: int, beside: Sequence[str] = ()) -> Rounds:
    """Horovod over MPI on 2 ranks with an option at several values, and others that take turns with them."""
    jobs = {f"{value:g}": contestant("horovod_mpi", 2, [option, f"{value:g}"]) for value in values}
    return measured(option, {**jobs, **{name: contestant(name, 2) for name in beside}}, wanted, rounds)


def best_cycle(rounds: Rounds, gradients: str) -> tuple[str, dict[str, list[float]]]:
    """The cycle time of the sweep with the least median, in ms, and MPI's seconds over those with it."""
    found = spreads({"": rounds})
    best = min((name for name in found if name != "mpi4py"), key=lambda name: found[name][SET]["median"])
    return best, {f"{gradients}_best_cycle_vs_mpi4py_2_ranks": ratio(rounds, best, "mpi4py")}


class Measurement:
    """What --json holds, as it grows."""

    def __init__(self, ranks: Sequence[int], gradients: Sequence[int], of: str) -> None:
        self.set_bytes, self.of = sum(gradients), of
        self.found: Found = provenance(f"{', '.join(map(str, ranks))} ranks of 1 thread")
        sections = ("ratios", "quartiles", "seconds", "seconds_quartiles", "bus_bandwidth_gb_s")
        self.found |= {section: {} for section in sections}
        self.found["rounds"] = {}

    def add_ratios(self, ratios: Mapping[str, list[float]]) -> None:
        for name, rounds in ratios.items():
            self.found["ratios"][name], self.found["quartiles"][name] = spread(rounds, 3).values()

    def add(self, ranks: int, taken: Mapping[str, Rounds]) -> None:
        """What groups found with so many ranks."""
        every = spreads(taken)
        self.found["seconds"][str(ranks)] = seconds = medians(every)
        self.found["seconds_quartiles"][str(ranks)] = medians(every, "quartiles")
        self.found["bus_bandwidth_gb_s"][str(ranks)] = bus_bandwidths(seconds, ranks, self.set_bytes)
        self.found["rounds"][str(ranks)] = dict(taken)
        self.add_ratios(ratios_of(taken, ranks, self.of))

    def add_sweep(self, name: str, rounds: Rounds) -> None:
        every = spreads({name: rounds})
        self.found[name] = medians(every)
        self.found[f"{name}_quartiles"] = medians(every, "quartiles")
        self.found["rounds"][name] = rounds


def quick() -> Found:
    """2 ranks, two contestants, small tensors."""
    gradients = [4096, 1 << 20]
    measurement = Measurement([2], gradients, "small_tensors")
    wanted = {"bytes": [4, 1 << 20], "set": gradients, "times": (2, 2), "idle_s": 0.2}
    jobs = {name: contestant(name, 2) for name in QUICK}
    rounds = measured("2 ranks", jobs, wanted, 1)
    measurement.add(2, {"mpi": rounds})
    measurement.add_sweep("cycle_time_ms", [{"1": rounds[0][QUICK[0]], "mpi4py": rounds[0]["mpi4py"]}])
    return measurement.found


def full(ranks: Sequence[int], rounds: int) -> Found:
    gradients = resnet50_gradients()
    measurement = Measurement(ranks, gradients, "resnet50")
    for number in ranks:
        wanted = {"bytes": SIZES, "set": gradients, "times": TIMES.get(number, TIMES[8])}
        taken = {}
        for group, names in GROUPS.items():
            jobs = {name: contestant(name, number) for name in names}
            taken[group] = measured(f"{number} ranks, {group}", jobs, wanted, rounds)
        measurement.add(number, taken)
    wanted = {"bytes": [4], "set": gradients, "times": TIMES[2], "idle_s": 1}
    swept = sweep("--cycle-time-ms", CYCLE_TIMES_MS, wanted, rounds, beside=["mpi4py"])
    measurement.add_sweep("cycle_time_ms", swept)
    measurement.found["best_cycle_time_ms"], ratios = best_cycle(swept, "resnet50")
    measurement.add_ratios(ratios)
    wanted["idle_s"] = 0
    swept = sweep("--fusion-threshold-mb", FUSION_THRESHOLDS_MB, wanted, rounds)
    measurement.add_sweep("fusion_threshold_mb", swept)
    return measurement.found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8], metavar="P")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="2 ranks, a few small tensors and one round: seconds")
    arguments = parser.parse_args()
    found = quick() if arguments.quick else full(arguments.ranks, arguments.rounds)
    print(json.dumps({name: value for name, value in found.items() if name != "rounds"}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
