"""How the jobs of step_overhead.py and cycle_time.py are started, and what of their turns is kept."""

import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from turns import Contestant, Round, spread, take_turns

from hvd_imagenet.launcher.tuning import KEPT_MEMORY

BIN = Path(sys.executable).parent
RANKS = 2
TORCH_LOOPS, KERAS_LOOPS = (str(Path(__file__).with_name(f"{name}_loops.py")) for name in ("step", "keras"))
CHANNELS_LAST = "layout=channels_last"
ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip
# As Horovod's documentation starts it over MPI.
UPSTREAM = [str(BIN / "mpirun"), "--allow-run-as-root", "-np", str(RANKS), "--bind-to", "none", "--map-by", "slot"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(RANKS), "--standalone"]


class Case(NamedTuple):
    """What a rank computes: uncounted and counted iterations of a turn are chosen so that it takes some seconds."""

    model: str
    image_size_px: int
    images: int
    uncounted: int
    counted: int

    @property
    def words(self) -> list[str]:
        return [self.model, str(self.image_size_px), str(self.images)]

    def turns(self, label: str, contestants: Mapping[str, Contestant], rounds: int, starts: int) -> list["Seconds"]:
        """Seconds of an iteration, of every contestant in every round."""
        request, first = [self.uncounted, self.counted], [2, 1]
        return [seconds_of(taken) for taken in take_turns(label, contestants, request, first, rounds, starts)]


# Of each contestant in a round.
Seconds = dict[str, float]
RESNET50 = Case("resnet50", 224, 8, uncounted=0, counted=2)
RESNET20 = Case("resnet20", 32, 64, uncounted=2, counted=10)
RESNET8 = Case("resnet8", 32, 8, uncounted=0, counted=2)
KERAS_RESNET50 = Case("resnet50", 224, 4, uncounted=0, counted=2)
KERAS_RESNET20 = Case("resnet20", 32, 32, uncounted=1, counted=20)
KERAS_RESNET8 = Case("resnet8", 32, 8, uncounted=0, counted=2)


def seconds_of(taken: Round) -> Seconds:
    """The mean over processes of each one's median."""
    return {
        name: round(statistics.mean(statistics.median(each) for each in answers), 6) for name, answers in taken.items()
    }


def launch(options: Sequence[str] = (), ranks: int = RANKS) -> list[str]:
    """As a user starts it, but for ranks that stand still, since they are stopped here."""
    words = ["launch", "-np", str(ranks), "--stall-timeout", "0", *options]
    return [sys.executable, "-m", "hvd_imagenet", *words, "--", sys.executable]


def job(command: Sequence[str], processes: int = RANKS, **variables: str) -> Contestant:
    return Contestant([command], processes, {**ONE_THREAD, **variables})


def singles(loops: str, case: Case, count: int, *options: str) -> Contestant:
    """Processes that nothing connects, each on a core of its own, and keeping memory as those of `launch` do."""
    cores = sorted(os.sched_getaffinity(0))
    words = [sys.executable, loops, "single", *case.words, *options]
    commands = [["taskset", "-c", str(cores[rank % len(cores)]), *words, f"rank={rank}"] for rank in range(count)]
    return Contestant(commands, count, {**ONE_THREAD, **KEPT_MEMORY})


def torch_ours(case: Case, *words: str, options: Sequence[str] = (), ranks: int = RANKS) -> Contestant:
    """The trainer of `hvd-imagenet train`, with words of the loop and options of `launch`."""
    return job([*launch(options, ranks), TORCH_LOOPS, "ours", *case.words, *words], ranks)


def torch_contestants(case: Case) -> dict[str, Contestant]:
    words = case.words
    ddp = [*TORCHRUN, TORCH_LOOPS, "ddp", *words]
    bare = [TORCH_LOOPS, "bare_horovod", *words]
    return {
        "ours": torch_ours(case),
        "ours_channels_last": torch_ours(case, CHANNELS_LAST),
        "bare_horovod": job([*launch(), *bare]),
        "bare_horovod_as_started_upstream": job([*UPSTREAM, sys.executable, *bare]),
        "ddp": job(ddp),
        "ddp_tuned": job([*ddp, "tuned=yes"]),
        "ddp_tuned_channels_last": job([*ddp, "tuned=yes", CHANNELS_LAST]),
        "ddp_tuned_channels_last_kept_memory": job([*ddp, "tuned=yes", CHANNELS_LAST], **KEPT_MEMORY),
        "two_singles": singles(TORCH_LOOPS, case, 2, CHANNELS_LAST),
        "single": singles(TORCH_LOOPS, case, 1, CHANNELS_LAST),
    }


def keras_contestants(case: Case, options: Sequence[str] = (), ranks: int = RANKS) -> dict[str, Contestant]:
    """With options of `launch`, as --cycle-time-ms."""
    loops = {name: [*launch(options, ranks), KERAS_LOOPS, name, *case.words] for name in ("ours", "bare_allreduce")}
    return {
        **{name: job(command, ranks) for name, command in loops.items()},
        "two_singles": singles(KERAS_LOOPS, case, 2),
        "single": singles(KERAS_LOOPS, case, 1),
    }


def spreads(rounds_of_groups: Mapping[str, Sequence[Seconds]], images: int | None = None) -> dict[str, Any]:
    """Median and quartiles over all turns of each contestant: seconds, or the images/s of a rank."""
    turns: dict[str, list[float]] = {}
    for rounds in rounds_of_groups.values():
        for taken in rounds:
            for name, seconds in taken.items():
                turns.setdefault(name, []).append(seconds if images is None else images / seconds)
    return {name: spread(each) for name, each in turns.items()}


def machine_words() -> str:
    return f"{RANKS} ranks of 1 thread on {len(os.sched_getaffinity(0))} cores"
