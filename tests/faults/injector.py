"""The one injector: `python injector.py PLAN WORDS…` runs `hvd_imagenet WORDS…` with faults.

PLAN is JSON. "faults": a list of WHAT@RANK:ITERATION or WHAT@RANK:ITERATION:ACTION, for WHAT see faults.py: it comes
once, when the rank begins the action ("computing" unless given) of the iteration (empty: of any), in the first start of
the job only; for a fault of a checkpoint the iteration is the checkpoint's. "after": a path for which kill waits, such
as a checkpoint's, which is written beside the training. "log": a file that gets a line of JSON for every beat of rank 0
and every fault: time_s (of the epoch), rank, restarts, action, iteration. "images": a folder for logs of the images
that each rank has taken. "settings": a folder for what each rank has of SETTINGS, as C sees it when it joins the job.
"words": a list of [rank, words] that this rank alone is given in addition.

The program itself has no such switches: they hang on its heartbeat.
"""

import ctypes
import json
import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faults
from waiting import wait_for

from hvd_imagenet import heartbeat
from hvd_imagenet.launcher.environment import RESTARTS_VARIABLE, launched_rank

RANK = launched_rank() or 0
SETTINGS = ("HOROVOD_FUSION_THRESHOLD", "HOROVOD_AUTOTUNE", "OMPI_MCA_coll", "OMPI_MCA_coll_tuned_allreduce_algorithm")
RESTARTS = int(os.environ.get(RESTARTS_VARIABLE, "0"))


@dataclass(frozen=True)
class Fault:
    """What happens, to whom, and when."""

    what: str
    rank: int
    iteration: int | None
    action: str

    @classmethod
    def of(cls, text: str) -> "Fault":
        """From WHAT@RANK:ITERATION:ACTION."""
        what, _, place = text.partition("@")
        rank, iteration, action = (*place.split(":", 2), "computing")[:3]
        return cls(what, int(rank), int(iteration) if iteration else None, action)


class Injector:
    """The heartbeat of a rank, with the faults that the plan holds for it."""

    def __init__(self, plan: dict[str, Any]) -> None:
        planned = [Fault.of(text) for text in plan.get("faults", [])]
        own = [fault for fault in planned if fault.rank == RANK] if RESTARTS == 0 else []
        self.left = [fault for fault in own if fault.what not in faults.OfCheckpoint.FAULTS]
        self.after: str | None = plan.get("after")
        self.log: str | None = plan.get("log")
        self.settings: str | None = plan.get("settings")
        self.iteration = -1
        self.beat = heartbeat.beat
        self.computing: faults.Computing | None = None
        self.of_checkpoints = [
            faults.OfCheckpoint(fault.what, fault.iteration or 0) for fault in own if fault not in self.left
        ]

    def hook(self, framework: str) -> None:
        """Before anything that imports `beat` is imported, and so before the framework's part."""
        heartbeat.beat = self.hooked
        self.computing = faults.of_computing((fault.what for fault in self.left), framework)

    def hooked(self, action: str, iteration: int | None = None) -> None:
        """Takes the place of heartbeat.beat."""
        for fault in self.of_checkpoints:
            fault.hold(iteration)
        self.beat(action, iteration)
        if self.settings is not None and action.startswith("waiting"):
            log_settings(Path(self.settings))
            self.settings = None
        self.write(action, iteration, only_of=0)
        if iteration is not None and iteration != self.iteration:
            self.iteration = iteration
            if self.computing is not None:
                self.computing.begin(None)
        for each in list(self.left):
            if action.startswith(each.action) and each.iteration in (None, self.iteration):
                self.left.remove(each)
                self.inject(each.what)

    def inject(self, what: str) -> None:
        if what == "kill" and self.after is not None:
            wait_for(Path(self.after))
        self.write(f"fault {what}", self.iteration, only_of=RANK)
        if what in faults.OF_PROCESSES:
            faults.OF_PROCESSES[what]()
        else:
            assert self.computing is not None
            self.computing.begin(what)

    def write(self, action: str, iteration: int | None, *, only_of: int) -> None:
        if self.log is not None and only_of == RANK:
            line = {"time_s": time.time(), "rank": RANK, "restarts": RESTARTS, "action": action, "iteration": iteration}
            with open(self.log, "a") as file:
                file.write(json.dumps(line) + "\n")


def log_settings(folder: Path) -> None:
    """Writes the variables that Horovod and MPI are about to read."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    folder.mkdir(parents=True, exist_ok=True)
    values = {name: (getenv(name.encode()) or b"").decode() for name in SETTINGS}
    (folder / f"settings-{RANK}.json").write_text(json.dumps(values))


def log_images(injector: Injector, folder: Path) -> None:
    """Writes a line for every batch that a rank takes: its iteration, and the images in the order of the stream."""
    from hvd_imagenet.data.reader import Reader
    from hvd_imagenet.data.transforms import Augmentation

    folder.mkdir(parents=True, exist_ok=True)
    original = Reader.batches

    def batches(self: Any, requests: Any) -> Any:
        if not isinstance(self._crop, Augmentation):
            yield from original(self, requests)
            return
        asked: deque[Any] = deque()

        def noted() -> Any:
            for epochs, images in requests:
                asked.append((epochs.tolist(), images.tolist()))
                yield epochs, images

        with (folder / f"rank-{RANK}.jsonl").open("a") as log:
            for pixels, labels in original(self, noted()):
                epochs, images = asked.popleft()
                assert labels.tolist() == self._images.labels[images].tolist()
                print(json.dumps([injector.iteration, epochs, images]), file=log, flush=True)
                yield pixels, labels

    Reader.batches = batches  # type: ignore[method-assign]


def main(text: str, words: list[str]) -> int:
    plan = json.loads(text)
    injector = Injector(plan)
    injector.hook("keras" if "keras" in words else "torch")
    from hvd_imagenet import cli

    if "images" in plan:
        log_images(injector, Path(plan["images"]))
    for rank, more in plan.get("words", []):
        words += more if rank == RANK else []
    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
