"""`python checkpoint_hooks.py FAULT@ITERATION WORDS…`: runs `hvd_imagenet WORDS…` with a fault when rank 0 is about to
give the checkpoint of that iteration its name (`kill`), or begins to write it (`read-only`: its folder becomes so, and
rank 0 begins no iteration behind the next one before that).
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from hvd_imagenet import heartbeat
from hvd_imagenet.launcher.environment import launched_rank


def kill(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def make_read_only(path: Path) -> None:
    folder = str(path.parent)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)


FAULTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "kill": ("os.rename", kill),
    "read-only": ("os.mkdir", make_read_only),
}


def main(words: list[str]) -> int:
    fault, _, at = words[0].partition("@")
    event, inject = FAULTS[fault]
    name = f"iteration-{int(at):08d}"
    place = {"os.rename": 1, "os.mkdir": 0}[event]
    happened, beat = threading.Event(), heartbeat.beat

    def wait_and_beat(action: str, iteration: int | None = None) -> None:
        if fault == "read-only" and launched_rank() == 0 and iteration is not None and iteration > int(at):
            assert happened.wait(60)
        beat(action, iteration)

    heartbeat.beat = wait_and_beat

    def hook(seen: str, arguments: tuple[object, ...]) -> None:
        if seen == event and name in Path(str(arguments[place])).name:
            inject(Path(str(arguments[place])))
            happened.set()

    sys.addaudithook(hook)
    from hvd_imagenet import cli

    return cli.main(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
