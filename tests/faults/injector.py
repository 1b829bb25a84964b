"""Runs a command of hvd-imagenet with a fault: `python injector.py FAULT@RANK:ITERATION --fault-log FILE train …`.

The fault comes when that rank begins to compute that iteration, in the first start of the job only; with a further
:PATH not before that is there, such as a checkpoint, which is written beside the training. It hooks the heartbeat, so
that the product has no switch for faults. Every beat of rank 0, and the fault, becomes a line of JSON in FILE: time_s
(of the epoch), rank, restarts, action, iteration.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from waiting import wait_for

from hvd_imagenet import heartbeat
from hvd_imagenet.launcher.environment import RESTARTS_VARIABLE, launched_rank

SLOW_S = 10.0


def raise_error() -> None:
    raise RuntimeError("injected fault")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hold_gil() -> None:
    ctypes.PyDLL(None).sleep(3600)  # PyDLL keeps the interpreter's lock during the call


def be_slow() -> None:
    time.sleep(SLOW_S)


def skip_collective() -> None:
    """Leaves out the next asynchronous allreduce of PyTorch that is called by its public name."""
    import horovod.torch as hvd

    allreduce, synchronize, skipped = hvd.allreduce_async_, hvd.synchronize, object()

    def skip(tensor: object, *arguments: object, **options: object) -> object:
        hvd.allreduce_async_ = allreduce
        return skipped

    hvd.allreduce_async_ = skip
    hvd.synchronize = lambda handle: None if handle is skipped else synchronize(handle)


FAULTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "raise": raise_error,
    "kill": kill,
    "stop": stop,
    "gil": hold_gil,
    "slow": be_slow,
    "skip-collective": skip_collective,
}


def log_line(path: str, **fields: object) -> None:
    with open(path, "a") as file:
        file.write(json.dumps({"time_s": time.time(), **fields}) + "\n")


def inject(fault: str, rank: int, iteration: int, after: Path | None, log: str) -> None:
    """Hooks the heartbeat; call it before anything that imports `beat` is imported."""
    beat, this_rank, restarts = heartbeat.beat, launched_rank() or 0, int(os.environ.get(RESTARTS_VARIABLE, "0"))
    armed = restarts == 0 and this_rank == rank

    def hooked(action: str, at: int | None = None) -> None:
        nonlocal armed
        beat(action, at)
        if this_rank == 0:
            log_line(log, rank=this_rank, restarts=restarts, action=action, iteration=at)
        if armed and at == iteration and action.startswith("computing"):
            armed = False
            if after is not None:
                wait_for(after)
            log_line(log, rank=this_rank, restarts=restarts, action=f"fault {fault}", iteration=at)
            FAULTS[fault]()

    def with_name(action: str, iteration: int | None = None) -> None:
        hooked(action, iteration)

    heartbeat.beat = with_name


def main(words: list[str]) -> int:
    fault, _, place = words[0].partition("@")
    rank, iteration, *after = place.split(":", 2)
    assert words[1] == "--fault-log"
    inject(fault, int(rank), int(iteration), Path(after[0]) if after else None, words[2])
    from hvd_imagenet import cli

    return cli.main(words[3:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
